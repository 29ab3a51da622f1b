// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt_gemm.h"

#include <dlfcn.h>

#include <algorithm>

namespace sinklora::kernels::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
// Rows that an algorithm is chosen for: those of training and prompts.
constexpr int64_t kChosenRows = 2048;
constexpr int kCandidates = 16;
// Choices kept. In training k may be a number of tokens, which varies.
constexpr size_t kMaxChosen = 4096;

cudaDataType_t TypeOf(DType dtype) {
  return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

int64_t Padded(int64_t columns, DType dtype) {
  const int64_t unit = Gemm::kAlignmentBytes / SizeOf(dtype);
  return (columns + unit - 1) / unit * unit;
}

template <typename Function>
bool Find(void* library, const char* name, Function* out,
          std::string* missing) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out == nullptr && missing->empty()) *missing = name;
  return *out != nullptr;
}

}  // namespace

Status CublasLt::Load() {
  const std::string file = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status(StatusCode::kUnavailable,
                  std::string("open_backend: cuda: ") + dlerror());
  }
  std::string missing;
  Find(library, "cublasLtCreate", &create, &missing);
  Find(library, "cublasLtDestroy", &destroy, &missing);
  Find(library, "cublasLtGetVersion", &get_version, &missing);
  Find(library, "cublasLtGetStatusName", &get_status_name, &missing);
  Find(library, "cublasLtMatmul", &matmul, &missing);
  Find(library, "cublasLtMatmulAlgoGetHeuristic", &get_heuristic, &missing);
  Find(library, "cublasLtMatmulAlgoCheck", &algo_check, &missing);
  Find(library, "cublasLtMatmulAlgoConfigGetAttribute", &algo_get, &missing);
  Find(library, "cublasLtMatmulDescCreate", &desc_create, &missing);
  Find(library, "cublasLtMatmulDescDestroy", &desc_destroy, &missing);
  Find(library, "cublasLtMatmulDescSetAttribute", &desc_set, &missing);
  Find(library, "cublasLtMatrixLayoutCreate", &layout_create, &missing);
  Find(library, "cublasLtMatrixLayoutDestroy", &layout_destroy, &missing);
  Find(library, "cublasLtMatmulPreferenceCreate", &preference_create, &missing);
  Find(library, "cublasLtMatmulPreferenceDestroy", &preference_destroy,
       &missing);
  Find(library, "cublasLtMatmulPreferenceSetAttribute", &preference_set,
       &missing);
  if (missing.empty()) return OkStatus();
  return Status(StatusCode::kUnavailable,
                "open_backend: cuda: " + file + " has no " + missing);
}

// cuBLASLt is column-major: it sees every matrix transposed, so that out^T =
// op(b)^T op(a)^T, with our b as its first operand.
struct CublasLtGemm::Problem {
  Problem(const CublasLt& library, const Key& key, int64_t m, int64_t row_a,
          int64_t row_b, int64_t row_out)
      : lib(library) {
    const cudaDataType_t operand = TypeOf(key.operands);
    const cublasOperation_t first = key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second =
        key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    Note(lib.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Note(
        lib.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)));
    Note(lib.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                      sizeof(second)));
    Layout(&b, operand, key.transpose_b ? key.n : key.k,
           key.transpose_b ? key.k : key.n, row_b);
    Layout(&a, operand, key.transpose_a ? key.k : m,
           key.transpose_a ? m : key.k, row_a);
    Layout(&out, TypeOf(key.result), m, key.n, row_out);
  }
  ~Problem() {
    for (cublasLtMatrixLayout_t layout : {a, b, out}) {
      if (layout != nullptr) lib.layout_destroy(layout);
    }
    if (desc != nullptr) lib.desc_destroy(desc);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  // Of a row-major matrix.
  void Layout(cublasLtMatrixLayout_t* layout, cudaDataType_t type, int64_t rows,
              int64_t columns, int64_t row) {
    Note(lib.layout_create(layout, type, static_cast<uint64_t>(columns),
                           static_cast<uint64_t>(rows), row));
  }
  void Note(cublasStatus_t s) {
    if (status == CUBLAS_STATUS_SUCCESS) status = s;
  }

  const CublasLt& lib;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, out = nullptr;
};

Status CublasLtGemm::Open(Runtime* runtime, std::unique_ptr<Gemm>* out) {
  std::unique_ptr<CublasLtGemm> gemm(new CublasLtGemm(runtime));
  if (Status status = gemm->lib_.Load(); !status.ok()) return status;
  const cublasStatus_t created = gemm->lib_.create(&gemm->handle_);
  if (created != CUBLAS_STATUS_SUCCESS) {
    return Status(StatusCode::kUnavailable,
                  std::string("open_backend: cuda: cublasLtCreate: ") +
                      gemm->lib_.get_status_name(created));
  }
  Status status = runtime->Allocate(kWorkspaceBytes, &gemm->workspace_);
  if (status.ok()) *out = std::move(gemm);
  return status;
}

CublasLtGemm::~CublasLtGemm() {
  if (workspace_ != nullptr) runtime_->Free(workspace_);
  if (handle_ != nullptr) lib_.destroy(handle_);
}

std::string CublasLtGemm::name() const {
  const size_t version = lib_.get_version();
  return "cuBLASLt " + std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

Status CublasLtGemm::Failed(const char* what, cublasStatus_t status) const {
  return Status(StatusCode::kInternal, std::string("cuda: matmul: ") + what +
                                           ": " + lib_.get_status_name(status));
}

// Whether `algo` takes a product of m rows as it is, summing k in one go.
bool CublasLtGemm::Serves(const Key& key, int64_t m,
                          const cublasLtMatmulAlgo_t& algo) {
  int32_t cuts = 0;
  size_t written = 0;
  if (lib_.algo_get(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &cuts, sizeof(cuts),
                    &written) != CUBLAS_STATUS_SUCCESS ||
      cuts > 1 || cuts < 0) {
    return false;
  }
  const Problem problem(lib_, key, m,
                        Padded(key.transpose_a ? m : key.k, key.operands),
                        Padded(key.transpose_b ? key.k : key.n, key.operands),
                        Padded(key.n, key.result));
  if (problem.status != CUBLAS_STATUS_SUCCESS) return false;
  cublasLtMatmulHeuristicResult_t result{};
  return lib_.algo_check(handle_, problem.desc, problem.b, problem.a,
                         problem.out, problem.out, &algo,
                         &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<size_t>(kWorkspaceBytes);
}

Status CublasLtGemm::Choose(const Key& key,
                            std::optional<cublasLtMatmulAlgo_t>* algo) {
  const Problem problem(
      lib_, key, kChosenRows,
      Padded(key.transpose_a ? kChosenRows : key.k, key.operands),
      Padded(key.transpose_b ? key.k : key.n, key.operands),
      Padded(key.n, key.result));
  if (problem.status != CUBLAS_STATUS_SUCCESS) {
    return Failed("descriptors", problem.status);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  cublasStatus_t status = lib_.preference_create(&preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t name,
                       const auto& value) {
    if (status != CUBLAS_STATUS_SUCCESS) return;
    status = lib_.preference_set(preference, name, &value, sizeof(value));
  };
  const uint64_t workspace = kWorkspaceBytes;
  const uint32_t one_sum = CUBLASLT_REDUCTION_SCHEME_NONE;
  const uint32_t alignment = kAlignmentBytes;
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, one_sum);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  cublasLtMatmulHeuristicResult_t results[kCandidates];
  int count = 0;
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_.get_heuristic(handle_, problem.desc, problem.b, problem.a,
                                problem.out, problem.out, preference,
                                kCandidates, results, &count);
  }
  if (preference != nullptr) lib_.preference_destroy(preference);
  algo->reset();
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return OkStatus();
  if (status != CUBLAS_STATUS_SUCCESS) return Failed("heuristic", status);
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulAlgo_t& candidate = results[i].algo;
    if (results[i].state == CUBLAS_STATUS_SUCCESS &&
        Serves(key, 1, candidate) && Serves(key, kChosenRows, candidate)) {
      *algo = candidate;
      return OkStatus();
    }
  }
  return OkStatus();
}

Status CublasLtGemm::Run(const GemmCall& call, Stream stream) {
  const Key key{call.operands,    call.result, call.transpose_a,
                call.transpose_b, call.n,      call.k};
  auto found = chosen_.find(key);
  if (found == chosen_.end()) {
    std::optional<cublasLtMatmulAlgo_t> algo;
    if (Status status = Choose(key, &algo); !status.ok()) return status;
    if (chosen_.size() >= kMaxChosen) chosen_.clear();
    found = chosen_.emplace(key, algo).first;
  }
  if (!found->second) {
    return Status(StatusCode::kUnimplemented,
                  "cuda: matmul: cuBLASLt has no algorithm for n " +
                      std::to_string(call.n) + ", k " + std::to_string(call.k));
  }
  const Problem problem(lib_, key, call.m, call.row_a, call.row_b,
                        call.row_out);
  cublasStatus_t status = problem.status;
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_.matmul(handle_, problem.desc, &call.alpha, call.b, problem.b,
                         call.a, problem.a, &call.beta, call.out, problem.out,
                         call.out, problem.out, &*found->second, workspace_,
                         static_cast<size_t>(kWorkspaceBytes), stream);
  }
  return status == CUBLAS_STATUS_SUCCESS ? OkStatus()
                                         : Failed("product", status);
}

}  // namespace sinklora::kernels::cuda
