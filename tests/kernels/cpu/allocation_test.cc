// What the ops of a training step allocate once they have run: nothing. Counts
// every operator new of the process, on all threads.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "tests/kernels/backends.h"
#include "tests/testing/tensor_near.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Counted(size_t size_bytes, size_t alignment) {
  ++allocations;
  const size_t rounded = (size_bytes + alignment) / alignment * alignment;
  if (void* p = std::aligned_alloc(alignment, rounded)) return p;
  throw std::bad_alloc();
}

}  // namespace

// Not inlined, where GCC 12 would see malloc's and free's halves of a pair as
// mismatched.
#define SINKLORA_NOINLINE __attribute__((noinline))

SINKLORA_NOINLINE void* operator new(size_t size_bytes) {
  return Counted(size_bytes, alignof(std::max_align_t));
}
SINKLORA_NOINLINE void* operator new(size_t size_bytes,
                                     std::align_val_t alignment) {
  return Counted(size_bytes, static_cast<size_t>(alignment));
}
SINKLORA_NOINLINE void operator delete(void* p) noexcept { std::free(p); }
SINKLORA_NOINLINE void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
SINKLORA_NOINLINE void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
SINKLORA_NOINLINE void operator delete(void* p, size_t,
                                       std::align_val_t) noexcept {
  std::free(p);
}

namespace sinklora::kernels {
namespace {

using testing::HostTensor;

constexpr int64_t kTokens = 600;
constexpr int64_t kDim = 192;
constexpr int64_t kVocab = 301;
constexpr int64_t kRank = 8;

HostTensor F32(std::vector<int64_t> shape) {
  return HostTensor::Random(DType::kF32, std::move(shape), 1);
}

struct Op {
  const char* name;
  std::function<Status()> run;
};

// Those that run no product of oneDNN, which allocates in its own way.
class AllocationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<int32_t> ids(kTokens);
    for (int64_t t = 0; t < kTokens; ++t) {
      ids[t] = static_cast<int32_t>(t * 7 % kVocab);
    }
    ids_ = HostTensor::Ints({kTokens}, ids);
  }
  TensorView Heads() {
    return TensorView(x_.view().data, DType::kF32, {kTokens, kDim / 64, 64});
  }
  std::vector<Op> Ops();
  std::vector<Op> Products();

  std::unique_ptr<Backend> backend_ = Open("cpu", 2);
  HostTensor ids_, x_ = F32({kTokens, kDim}), y_ = F32({kTokens, kDim}),
                   z_ = F32({kTokens, kDim}), weight_ = F32({kDim}),
                   dweight_ = F32({kDim}), inv_rms_ = F32({kTokens}),
                   table_ = F32({kVocab, kDim}), m_ = F32({kVocab, kDim}),
                   v_ = HostTensor::Zeros(DType::kF32, {kVocab, kDim}),
                   grad_ = F32({kVocab, kDim}),
                   half_ = HostTensor::Zeros(DType::kBF16, {kVocab, kDim}),
                   lora_a_ = F32({kRank, kDim}), lora_b_ = F32({kDim, kRank}),
                   down_ = F32({kTokens, kRank}), cos_ = F32({kTokens, 32}),
                   rows_ = HostTensor::Ints({3}, {1, 5, 300});
  double sum_ = 0.0;
};

std::vector<Op> AllocationTest::Ops() {
  Backend& b = *backend_;
  return {
      {"bias_forward",
       [this, &b] {
         return b.BiasForward({.bias = weight_.view(), .out = x_.view()});
       }},
      {"bias_backward",
       [this, &b] {
         return b.BiasBackward({.dout = x_.view(), .dbias = dweight_.view()});
       }},
      {"rms_norm_forward",
       [this, &b] {
         return b.RmsNormForward({.x = x_.view(),
                                  .weight = weight_.view(),
                                  .out = y_.view(),
                                  .inv_rms = inv_rms_.view()});
       }},
      {"rms_norm_backward",
       [this, &b] {
         return b.RmsNormBackward({.dout = y_.view(),
                                   .x = x_.view(),
                                   .weight = weight_.view(),
                                   .inv_rms = inv_rms_.view(),
                                   .dx = z_.view(),
                                   .dweight = dweight_.view()});
       }},
      {"rope",
       [this, &b] {
         return b.Rope({.x = Heads(),
                        .positions = ids_.view(),
                        .cos = cos_.view(),
                        .sin = cos_.view()});
       }},
      {"swiglu_forward",
       [this, &b] {
         return b.SwiGluForward(
             {.gate = x_.view(), .up = y_.view(), .out = z_.view()});
       }},
      {"swiglu_backward",
       [this, &b] {
         return b.SwiGluBackward({.dout = z_.view(),
                                  .gate = x_.view(),
                                  .up = y_.view(),
                                  .dgate = x_.view(),
                                  .dup = y_.view()});
       }},
      {"embedding_forward",
       [this, &b] {
         return b.EmbeddingForward(
             {.ids = ids_.view(), .table = table_.view(), .out = x_.view()});
       }},
      {"embedding_backward",
       [this, &b] {
         return b.EmbeddingBackward(
             {.ids = ids_.view(), .dout = x_.view(), .dtable = grad_.view()});
       }},
      {"adamw",
       [this, &b] {
         return b.AdamW({.param = table_.view(),
                         .grad = grad_.view(),
                         .m = m_.view(),
                         .v = v_.view(),
                         .rows = rows_.view()});
       }},
      {"sum_squares",
       [this, &b] {
         return b.SumSquares({.x = grad_.view(), .result = &sum_});
       }},
      {"scale",
       [this, &b] { return b.Scale({.x = x_.view(), .factor = 0.5f}); }},
      {"add", [this, &b] { return b.Add({.x = x_.view(), .out = y_.view()}); }},
      {"cast",
       [this, &b] {
         return b.Cast({.x = table_.view(), .out = half_.view()});
       }},
      {"zero_rows",
       [this, &b] {
         return b.ZeroRows({.x = grad_.view(), .rows = rows_.view()});
       }},
      {"zero",
       [this, &b] { return b.Zero(grad_.view().data, kVocab * kDim * 4); }},
  };
}

// Of LoRA, but for those with few columns: oneDNN multiplies them where it
// runs, and makes lists of its arguments.
std::vector<Op> AllocationTest::Products() {
  Backend& b = *backend_;
  return {
      {"up",
       [this, &b] {
         return b.MatMul({.a = down_.view(),
                          .b = lora_b_.view(),
                          .out = y_.view(),
                          .transpose_b = true,
                          .alpha = 2.0f,
                          .beta = 1.0f});
       }},
      {"gradient of b",
       [this, &b] {
         return b.MatMul({.a = y_.view(),
                          .b = down_.view(),
                          .out = lora_b_.view(),
                          .transpose_a = true,
                          .alpha = 2.0f,
                          .beta = 1.0f});
       }},
      {"gradient of a",
       [this, &b] {
         return b.MatMul({.a = down_.view(),
                          .b = x_.view(),
                          .out = lora_a_.view(),
                          .transpose_a = true,
                          .beta = 1.0f});
       }},
      {"gradient of the input",
       [this, &b] {
         return b.MatMul({.a = down_.view(),
                          .b = lora_a_.view(),
                          .out = z_.view(),
                          .beta = 1.0f});
       }},
  };
}

TEST_F(AllocationTest, OpsThatHaveRunAllocateNothing) {
  std::vector<Op> ops = Ops();
  for (Op& op : Products()) ops.push_back(std::move(op));
  for (const Op& op : ops) {
    // A thread gets its scratch memory with its first task, which on a busy
    // machine may come late.
    int64_t made = -1;
    for (int call = 0; call < 100 && made != 0; ++call) {
      const int64_t before = allocations.load();
      const Status status = op.run();
      made = allocations.load() - before;
      ASSERT_TRUE(Ok(status)) << op.name;
    }
    EXPECT_EQ(made, 0) << op.name;
  }
  EXPECT_EQ(backend_->allocated_bytes(), 0);
}

// The counter counts.
TEST_F(AllocationTest, CounterCounts) {
  const int64_t before = allocations.load();
  Buffer buffer;
  ASSERT_TRUE(Ok(backend_->Allocate(int64_t{64}, &buffer)));
  std::vector<int> some(1000);
  EXPECT_GT(allocations.load(), before);
  EXPECT_EQ(backend_->allocated_bytes(), 64);
}

}  // namespace
}  // namespace sinklora::kernels
