// Matrix products by cuBLASLt, which is opened at run time.
//
// For each combination of dtypes, transposition, n and k one algorithm is
// chosen, without a cut of the sum over k, and used for every m: so a row of
// the result has the same bits in any batch. f32 operands are multiplied as
// f32, not as TF32.
//
// Thread-compatible. Must not outlive its runtime.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CUDA_CUBLASLT_GEMM_H_
#define SINKLORA_KERNELS_CUDA_CUBLASLT_GEMM_H_

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/runtime.h"

namespace sinklora::kernels::cuda {

// The functions that are used, of a library that is loaded on demand.
struct CublasLt {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtGetStatusName) get_status_name = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) algo_get = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;

  // kUnavailable names the file or function that is missing. The library stays
  // loaded.
  Status Load();
};

class CublasLtGemm final : public Gemm {
 public:
  // kUnavailable where the library is missing or refuses the device.
  static Status Open(Runtime* runtime, std::unique_ptr<Gemm>* out);
  ~CublasLtGemm() override;

  std::string name() const override;
  Status Run(const GemmCall& call, Stream stream) override;

 private:
  // What an algorithm is chosen by.
  struct Key {
    DType operands, result;
    bool transpose_a, transpose_b;
    int64_t n, k;
    auto operator<=>(const Key&) const = default;
  };
  struct Problem;  // descriptors of one product

  explicit CublasLtGemm(Runtime* runtime) : runtime_(runtime) {}
  // Nothing where no algorithm sums over k in one go.
  Status Choose(const Key& key, std::optional<cublasLtMatmulAlgo_t>* algo);
  bool Serves(const Key& key, int64_t m, const cublasLtMatmulAlgo_t& algo);
  Status Failed(const char* what, cublasStatus_t status) const;

  Runtime* const runtime_;
  CublasLt lib_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, std::optional<cublasLtMatmulAlgo_t>> chosen_;
};

}  // namespace sinklora::kernels::cuda

#endif  // SINKLORA_KERNELS_CUDA_CUBLASLT_GEMM_H_
