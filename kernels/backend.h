// The one abstract interface between the model and the hardware: memory and one
// method an op.
//
// Implementations: "reference" (naive loops, double accumulation: the oracle),
// "cpu" (oneDNN, Highway, threads), "cuda:N" (a GPU, through a plugin). Every
// op validates its params and returns kInvalidArgument naming the op, the
// field, the value and the limit, before touching any output.
//
// Data of tensors are in the backend's memory, which the host may not be able
// to read: only CopyToDevice and CopyToHost reach it. A backend may queue ops
// and return before they are done; all that is asked of it runs in the order of
// the calls. CopyToHost, and ops with a result in host memory (SumSquares,
// LinearCrossEntropy, SampleTokens), wait for what they return; the source of a
// CopyToDevice is free again on its return. Where only the device can read
// elements that a contract bounds (ids, positions, slots), bad ones are left
// out, and the next call that waits returns the kInvalidArgument. After a
// failure of the device (kInternal) every call returns that failure.
//
// Thread-safety: one caller at a time per Backend object (an op uses all of its
// threads itself). Separate Backend objects may be used concurrently.
// Determinism: for equal inputs every op returns equal bits, for any number of
// threads. Ownership: Backend owns nothing it hands out views of; Buffer owns
// memory and must not outlive its Backend. dtypes: f32 or bf16 storage as
// stated per op, f32 accumulation (double in "reference").
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_BACKEND_H_
#define SINKLORA_KERNELS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/bias/bias.h"
#include "kernels/cache_attention/cache_attention.h"
#include "kernels/cache_decode/cache_decode.h"
#include "kernels/collective/collective.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/matmul/matmul.h"
#include "kernels/quantized_matmul/quantized_matmul.h"
#include "kernels/repeat/repeat.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/sampling/sampling.h"
#include "kernels/status.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

class Backend;

// Owns one device allocation, 64-byte aligned. Move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend* backend, void* data, int64_t size_bytes)
      : backend_(backend), data_(data), size_bytes_(size_bytes) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
  }
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "cpu", "cuda:0", "reference"
  virtual std::string description()
      const = 0;  // e.g. "cpu, 2 threads, avx2 ..."

  // --- memory
  // -----------------------------------------------------------------------------------------------
  // Allocates `size_bytes` (>= 0), not initialised. kResourceExhausted when
  // memory is short, at the latest when more than memory_bytes() would be
  // handed out.
  virtual Status Allocate(int64_t size_bytes, Buffer* out) = 0;
  virtual Status CopyToDevice(const void* host, void* device,
                              int64_t size_bytes) = 0;
  virtual Status CopyToHost(const void* device, void* host,
                            int64_t size_bytes) = 0;
  virtual Status Zero(void* device, int64_t size_bytes) = 0;
  // What the device has; on the host, what the machine or the process's cgroup
  // allows.
  virtual int64_t memory_bytes() const = 0;
  // Bytes handed out now, and the largest value of it since ResetPeak().
  virtual int64_t allocated_bytes() const = 0;
  virtual int64_t peak_bytes() const = 0;
  virtual void ResetPeak() = 0;

  // --- ops: contracts beside the params in kernels/<op>/<op>.h
  // ------------------------------------------------
  virtual Status MatMul(const MatMulParams& p) = 0;
  virtual Status Quantize(const QuantizeParams& p) = 0;
  virtual Status QuantizedMatMul(const QuantizedMatMulParams& p) = 0;
  virtual Status DequantizeRows(const DequantizeRowsParams& p) = 0;
  virtual Status BiasForward(const BiasForwardParams& p) = 0;
  virtual Status BiasBackward(const BiasBackwardParams& p) = 0;
  virtual Status RmsNormForward(const RmsNormForwardParams& p) = 0;
  virtual Status RmsNormBackward(const RmsNormBackwardParams& p) = 0;
  virtual Status Rope(const RopeParams& p) = 0;
  virtual Status AttentionForward(const AttentionForwardParams& p) = 0;
  virtual Status AttentionBackward(const AttentionBackwardParams& p) = 0;
  virtual Status SwiGluForward(const SwiGluForwardParams& p) = 0;
  virtual Status SwiGluBackward(const SwiGluBackwardParams& p) = 0;
  virtual Status EmbeddingForward(const EmbeddingForwardParams& p) = 0;
  virtual Status EmbeddingBackward(const EmbeddingBackwardParams& p) = 0;
  virtual Status LinearCrossEntropy(const LinearCrossEntropyParams& p) = 0;
  virtual Status AdamW(const AdamWParams& p) = 0;
  virtual Status SumSquares(const SumSquaresParams& p) = 0;
  virtual Status ZeroRows(const ZeroRowsParams& p) = 0;
  virtual Status Scale(const ScaleParams& p) = 0;
  virtual Status ScaleColumns(const ScaleColumnsParams& p) = 0;
  virtual Status Add(const AddParams& p) = 0;
  virtual Status Cast(const CastParams& p) = 0;
  virtual Status CacheWrite(const CacheWriteParams& p) = 0;
  virtual Status CacheAttention(const CacheAttentionParams& p) = 0;
  virtual Status CacheDecode(const CacheDecodeParams& p) = 0;
  virtual Status CacheColumnSums(const CacheColumnSumsParams& p) = 0;
  virtual Status CacheCompact(const CacheCompactParams& p) = 0;
  virtual Status SampleTokens(const SampleTokensParams& p) = 0;

  // Runs ops that come again and again: kernels/repeat/repeat.h. OK when `run`
  // returned false. After an error nothing is left half recorded.
  virtual Status Repeat(const RepeatParams& p) = 0;
  virtual RepeatCounts repeat_counts() const = 0;
  // Why the first of repeat_counts().refused was; OK while there is none.
  virtual Status repeat_refusal() const = 0;

  // --- what backends do together: kernels/collective/collective.h
  // Backends of GPUs alone; others, and a GPU where the library that connects
  // them (NCCL) is missing, refuse with kUnimplemented or kUnavailable.
  virtual Status MakeCollectiveId(CollectiveId* out) = 0;
  // Waits until all ranks have joined, or for the abort. A group of one needs
  // no library.
  virtual Status JoinCollective(const JoinCollectiveParams& p,
                                std::unique_ptr<Collective>* out) = 0;

 protected:
  friend class Buffer;
  virtual void Free(void* data, int64_t size_bytes) = 0;
};

inline Buffer::~Buffer() {
  if (backend_ != nullptr && data_ != nullptr) {
    backend_->Free(data_, size_bytes_);
  }
}

struct BackendOptions {
  // Threads of the CPU backend including the caller; 0 takes the cores this
  // process may run on.
  int num_threads = 0;
  // Instruction set of the CPU backend: "portable", "avx2", "avx512",
  // "avx512_bf16", "amx", or "auto" for the best that machine and build have.
  // One for the process: the first CPU backend fixes it, see
  // kernels/cpu/cpu_isa.h.
  std::string cpu_isa = "auto";
  // Whether a GPU records ops that repeat as CUDA graphs: "auto", as of
  // kernels/repeat/repeat.h, or "off". Other devices never do.
  std::string cuda_graphs = "auto";
};

// Opens a backend by device name: "cpu", "reference", "cuda:N" (GPU number N;
// "cuda" is "cuda:0"), or "auto": "cuda:0" where it answers, else "cpu", and
// `why_not_cuda`, when given, says why; it is empty in every other case.
// Anything else is kInvalidArgument with the list of names; a device or an
// instruction set that is absent is kUnavailable. A cpu_isa that is not "auto"
// is kInvalidArgument for a device other than the CPU (with "auto" it chooses
// the CPU), and where the process uses another one already. cuda_graphs with a
// value that it has not is kInvalidArgument for every device.
Status OpenBackend(std::string_view device, const BackendOptions& options,
                   std::unique_ptr<Backend>* out,
                   std::string* why_not_cuda = nullptr);

// GPUs of this machine that the driver shows, at least 1: "cuda:0" and on.
// kUnavailable with the reason where there is none.
Status CountCudaDevices(int* out);

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_BACKEND_H_
