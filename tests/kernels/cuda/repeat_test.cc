// Ops that repeat: replays have the bits of the ops asked one by one, whatever
// changed in between, and what cannot be recorded leaves nothing behind.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/cuda/decode_step.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"
#include "tests/testing/cuda_emulation/runtime.h"

namespace sinklora::kernels {
namespace {

using emulation::Call;
using emulation::EmulatedRuntime;

TEST(RepeatedStepTest, HasTheBitsOfItsOpsWhateverChangesInBetween) {
  std::unique_ptr<Backend> backend;
  ASSERT_TRUE(Ok(OpenCudaDevice(kTested, &backend)));
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    EXPECT_EQ(CompareRepeatedSteps(backend.get(), storage), "");
  }
}

TEST(RepeatedStepTest, OtherBackendsRunItEachTime) {
  const auto cpu = Open("cpu");
  int runs = 0;
  const RepeatParams p{
      .key = {}, .decodes = {}, .run = [&] { return ++runs > 0; }};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Ok(cpu->Repeat(p)));
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(cpu->repeat_counts().run, 3);
  EXPECT_TRUE(Refused(cpu->Repeat({}), {"repeat: run is empty"}));
}

// Fails, as half of the threads never come to the barrier.
SINKLORA_GLOBAL void DivergeKernel() {
  if (threadIdx.x < 32) cuda::SyncThreads();
}

class RepeatTest : public ::testing::Test {
 protected:
  void SetUp() override { OpenWith(cuda::Recorder::kMaxGraphs); }
  ~RepeatTest() override {
    for (const Call call :
         {Call::kLaunch, Call::kBeginCapture, Call::kEndCapture,
          Call::kInstantiate, Call::kGraphLaunch}) {
      emulation::Fail(call, -1);
    }
    emulation::ResetDevice();
  }

  void OpenWith(int max_graphs) {
    plain_.reset();
    step_.reset();
    backend_.reset();
    ASSERT_TRUE(
        Ok(emulation::OpenEmulated(&backend_, &runtime_, 0, max_graphs)));
    step_ = std::make_unique<DecodeStep>(backend_.get(), options_);
    DecodeStep::Options options = options_;
    options.repeats = false;
    plain_ = std::make_unique<DecodeStep>(backend_.get(), options);
    for (DecodeStep* step : {step_.get(), plain_.get()}) {
      ASSERT_TRUE(Ok(step->Init()));
      ASSERT_TRUE(Ok(step->Add(20, 1000, true)));
      ASSERT_TRUE(Ok(step->Add(30, 1000, false)));
      ASSERT_TRUE(Ok(step->Add(5, 9, false)));
    }
  }
  // Steps of `batch` both ways, which must have the same bits.
  void ExpectSameBits(int steps, const std::vector<size_t>& batch = {0, 1}) {
    for (int i = 0; i < steps; ++i) {
      ASSERT_TRUE(Ok(step_->Decode(batch)));
      ASSERT_TRUE(Ok(plain_->Decode(batch)));
      std::vector<uint8_t> got, want;
      ASSERT_TRUE(Ok(step_->Read(&got)));
      ASSERT_TRUE(Ok(plain_->Read(&want)));
      ASSERT_TRUE(got == want) << "step " << i;
    }
  }
  void ExpectCounts(int run, int recorded, int repeated, int refused = 0) {
    const RepeatCounts counts = backend_->repeat_counts();
    EXPECT_EQ(counts.run, run);
    EXPECT_EQ(counts.recorded, recorded);
    EXPECT_EQ(counts.repeated, repeated);
    EXPECT_EQ(counts.refused, refused);
  }
  // `extra` is among the ops of a step that is recorded, which then fails.
  Status FailureWhileRecording(std::function<Status()> extra) {
    ExpectSameBits(1);
    step_->extra = std::move(extra);
    const Status status = step_->Decode(std::vector<size_t>{0, 1});
    step_->extra = nullptr;
    EXPECT_FALSE(runtime_->recording());
    EXPECT_EQ(runtime_->graphs(), 0);
    return status;
  }
  Buffer Allocated(int64_t size_bytes) {
    Buffer out;
    EXPECT_TRUE(Ok(backend_->Allocate(size_bytes, &out)));
    return out;
  }

  const DecodeStep::Options options_;
  std::unique_ptr<Backend> backend_;
  const EmulatedRuntime* runtime_ = nullptr;
  std::unique_ptr<DecodeStep> step_, plain_;
};

TEST_F(RepeatTest, IsRunThenRecordedThenRepeated) {
  ExpectSameBits(1);
  ExpectCounts(1, 0, 0);
  EXPECT_EQ(runtime_->graphs(), 0);
  ExpectSameBits(1);
  ExpectCounts(1, 1, 0);
  EXPECT_EQ(runtime_->graphs(), 1);
  ExpectSameBits(3);
  ExpectCounts(1, 1, 3);
}

TEST_F(RepeatTest, ARepeatedStepAllocatesNothing) {
  ExpectSameBits(3);
  const int64_t before = runtime_->allocations();
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Ok(step_->Decode(std::vector<size_t>{0, 1})));
  }
  EXPECT_EQ(runtime_->allocations(), before);
  ExpectCounts(1, 1, 5);
}

// Caches, positions and lengths are in the table that each step brings.
TEST_F(RepeatTest, OneRecordServesAllBatchesOfItsShape) {
  ExpectSameBits(1, {0, 1, 2});
  ExpectCounts(1, 0, 0);
  ExpectSameBits(2, {0, 1});  // another number of rows
  ExpectSameBits(1, {1, 0});
  ExpectSameBits(2, {0, 2});
  ExpectCounts(2, 1, 3);
  ExpectSameBits(2, {2, 0, 1});
  ExpectCounts(2, 2, 4);
  ExpectSameBits(1, {0, 1});
  ExpectCounts(2, 2, 5);
  ExpectSameBits(2, {1});  // nobody keeps books, so a launch less
  ExpectCounts(3, 3, 5);
  ExpectSameBits(2, {2});  // which evicts by now
  ExpectCounts(4, 4, 5);
}

TEST_F(RepeatTest, TilesAreRecordedForTwiceTheLength) {
  for (DecodeStep* step : {step_.get(), plain_.get()}) {
    ASSERT_TRUE(Ok(step->Add(122, 1000, true)));  // number 3
    ASSERT_TRUE(Ok(step->Add(252, 1000, true)));
    ASSERT_TRUE(Ok(step->Add(500, 1000, true)));
  }
  ExpectSameBits(1, {5});  // the memory that the others need, too; four tiles
  ExpectCounts(1, 0, 0);
  ExpectSameBits(6, {3});  // up to 128 slots
  ExpectCounts(2, 1, 4);
  ExpectSameBits(6, {3});  // two tiles
  ExpectCounts(3, 2, 8);
  ExpectSameBits(4, {4});  // up to 256 slots: the same
  ExpectCounts(3, 2, 12);
  ExpectSameBits(4, {4});  // three tiles of four
  ExpectCounts(3, 3, 15);
}

TEST_F(RepeatTest, ATableThatMovesDropsTheRecords) {
  ExpectSameBits(3, {1});
  ExpectCounts(1, 1, 1);
  ExpectSameBits(1, {0, 1, 2});  // more than there was room for
  EXPECT_EQ(runtime_->graphs(), 0);
  ExpectSameBits(2, {1});
  ExpectCounts(2, 2, 2);
}

TEST_F(RepeatTest, MemoryThatMovesDropsTheRecords) {
  ExpectSameBits(3);
  ExpectCounts(1, 1, 1);
  // An op between steps that needs more scratch memory than any before.
  const Buffer x = Allocated(4 * 700 * 701);
  const Buffer out = Allocated(4 * 701 * 701);
  ASSERT_TRUE(Ok(backend_->Zero(x.data(), x.size_bytes())));
  ASSERT_TRUE(Ok(
      backend_->MatMul({.a = ConstTensorView(x.data(), DType::kF32, {700, 701}),
                        .b = ConstTensorView(x.data(), DType::kF32, {700, 701}),
                        .out = TensorView(out.data(), DType::kF32, {701, 701}),
                        .transpose_a = true})));
  ExpectSameBits(1);
  ExpectCounts(1, 2, 1);
  EXPECT_EQ(runtime_->graphs(), 1);
  ExpectSameBits(2);
  ExpectCounts(1, 2, 3);
}

TEST_F(RepeatTest, KeepsTheRecordsOfTheLastKeys) {
  constexpr int kMost = cuda::Recorder::kMaxGraphs;
  for (int key = 0; key <= kMost; ++key) {
    step_->salt = key;
    ExpectSameBits(2);
    EXPECT_EQ(runtime_->graphs(), std::min(key + 1, kMost));
  }
  ExpectCounts(kMost + 1, kMost + 1, 0);
  step_->salt = 1;  // the oldest that is there, which the next makes way for
  ExpectSameBits(1);
  ExpectCounts(kMost + 1, kMost + 1, 1);
  step_->salt = 0;
  ExpectSameBits(1);
  ExpectCounts(kMost + 2, kMost + 1, 1);
  step_->salt = 1;
  ExpectSameBits(1);
  ExpectCounts(kMost + 2, kMost + 1, 2);
  step_->salt = 2;
  ExpectSameBits(1);
  ExpectCounts(kMost + 3, kMost + 1, 2);
}

TEST_F(RepeatTest, WithoutGraphsEveryStepIsRun) {
  OpenWith(0);
  ExpectSameBits(4);
  ExpectCounts(4, 0, 0);
}

// What waits, allocates or copies from or to the host is refused by name, and
// the steps after it are as if it had not been asked for.
TEST_F(RepeatTest, WhatCannotBeRecordedIsRefused) {
  Buffer x, other;
  char host[64] = {};
  double sum = 0;
  const std::vector<std::pair<std::string, std::function<Status()>>> cases = {
      {"copy_to_host",
       [&] {
         return backend_->SumSquares(
             {.x = ConstTensorView(x.data(), DType::kF32, {16}),
              .result = &sum});
       }},
      {"copy_to_host",
       [&] { return backend_->CopyToHost(x.data(), host, 64); }},
      {"copy_to_device",
       [&] { return backend_->CopyToDevice(host, x.data(), 64); }},
      {"allocation", [&] { return backend_->Allocate(8, &other); }},
      {"one within another",
       [&] {
         return backend_->Repeat(
             {.key = {}, .decodes = {}, .run = [] { return true; }});
       }},
  };
  for (const auto& [name, extra] : cases) {
    SCOPED_TRACE(name);
    x = Buffer();
    OpenWith(cuda::Recorder::kMaxGraphs);
    x = Allocated(64);
    ASSERT_TRUE(Ok(backend_->Zero(x.data(), 64)));
    EXPECT_TRUE(Refused(FailureWhileRecording(extra), {"repeat: ", name}));
    ExpectSameBits(3);
    ExpectCounts(2, 1, 1);
  }
}

TEST_F(RepeatTest, OpsMustBeThoseThatWereAnnounced) {
  step_->leaves_out_decode = true;
  EXPECT_TRUE(Refused(step_->Decode(std::vector<size_t>{0, 1}),
                      {"0 of 1 announced cache_decode ops"}));
  step_->leaves_out_decode = false;
  EXPECT_TRUE(
      Refused(FailureWhileRecording([&] { return step_->DecodeAgain(); }),
              {"cache_decode number 1 is another"}));
  ExpectSameBits(3);
}

TEST_F(RepeatTest, AnExceptionLeavesNothingRecording) {
  const auto expect_throw = [&] {
    step_->extra = []() -> Status { throw std::runtime_error("in between"); };
    EXPECT_THROW((void)step_->Decode(std::vector<size_t>{0, 1}),
                 std::runtime_error);
    step_->extra = nullptr;
    EXPECT_FALSE(runtime_->recording());
    EXPECT_EQ(runtime_->graphs(), 0);
  };
  ExpectSameBits(1);
  expect_throw();  // while it is recorded
  ExpectSameBits(3);
  ExpectCounts(2, 1, 1);
  step_->salt = 1;
  step_->extra = []() -> Status { throw std::runtime_error("at first"); };
  EXPECT_THROW((void)step_->Decode(std::vector<size_t>{0, 1}),
               std::runtime_error);
  step_->extra = nullptr;
}

// Whatever the device refuses on the way to a record.
TEST_F(RepeatTest, WhatIsRefusedIsRunAndNotTriedAgain) {
  const std::vector<std::pair<std::string, Call>> cases = {
      {"cudaStreamBeginCapture: cudaErrorStreamCaptureUnsupported",
       Call::kBeginCapture},
      {"failed: cudaErrorInvalidConfiguration", Call::kLaunch},
      {"cudaStreamEndCapture: cudaErrorStreamCaptureInvalidated",
       Call::kEndCapture},
      {"cudaGraphInstantiateWithFlags: cudaErrorMemoryAllocation",
       Call::kInstantiate},
      {"cudaGraphLaunch: cudaErrorMemoryAllocation", Call::kGraphLaunch},
  };
  for (const auto& [why, call] : cases) {
    SCOPED_TRACE(why);
    OpenWith(cuda::Recorder::kMaxGraphs);
    ExpectSameBits(1);
    EXPECT_TRUE(Ok(backend_->repeat_refusal()));
    emulation::Fail(call, call == Call::kLaunch ? 2 : 0);
    ExpectSameBits(1);
    ExpectCounts(1, 0, 0, 1);
    EXPECT_FALSE(runtime_->recording());
    EXPECT_EQ(runtime_->graphs(), 0);
    EXPECT_NE(backend_->repeat_refusal().message().find(why), std::string::npos)
        << backend_->repeat_refusal().message();
    ExpectSameBits(3);  // of the same key
    ExpectCounts(4, 0, 0, 1);
    step_->salt = 1;  // another key
    ExpectSameBits(3);
    ExpectCounts(5, 1, 1, 1);
    EXPECT_EQ(runtime_->graphs(), 1);
  }
}

TEST_F(RepeatTest, ARecordThatIsRefusedLaterIsDropped) {
  ExpectSameBits(4);
  ExpectCounts(1, 1, 2);
  emulation::Fail(Call::kGraphLaunch, 0);
  ExpectSameBits(1);
  ExpectCounts(1, 1, 2, 1);
  EXPECT_EQ(runtime_->graphs(), 0);
  ExpectSameBits(2);
  ExpectCounts(3, 1, 2, 1);
}

// Keys that were forgotten would be tried again for ever.
TEST_F(RepeatTest, AfterSomeRefusalsNothingMoreIsRecorded) {
  constexpr int kMost = cuda::Recorder::kMaxRefusals;
  const auto repeat_first = [&] {
    step_->salt = 100;
    ExpectSameBits(1);
  };
  repeat_first();
  repeat_first();  // recorded before anything is refused
  for (int key = 0; key < kMost; ++key) {
    step_->salt = key;
    emulation::Fail(Call::kInstantiate, 0);
    ExpectSameBits(2);
    ExpectCounts(key + 2, 1, key > 4 ? 1 : 0, key + 1);
    if (key == 4) repeat_first();  // so that it is kept
  }
  step_->salt = kMost;
  ExpectSameBits(3);
  ExpectCounts(kMost + 4, 1, 1, kMost);
  repeat_first();
  ExpectCounts(kMost + 4, 1, 2, kMost);
}

// What fails in the second try, too, is the caller's to know, and the key as if
// never met.
TEST_F(RepeatTest, AnOpThatFailsWhenRunInsteadFailsTheStep) {
  ExpectSameBits(1);
  emulation::Fail(Call::kEndCapture, 0);
  int calls = 0;
  step_->extra = [&] {
    return ++calls == 2 ? InvalidArgument("an extra op") : OkStatus();
  };
  EXPECT_TRUE(
      Refused(step_->Decode(std::vector<size_t>{0, 1}), {"an extra op"}));
  EXPECT_EQ(calls, 2);
  step_->extra = nullptr;
}

// An error that stays is one of the device, wherever it shows first.
TEST_F(RepeatTest, ALostDeviceIsNoRefusal) {
  // On a stream that records nothing; the next call has the error.
  const auto lose = [] {
    EXPECT_FALSE(
        cuda::Launch("diverge", DivergeKernel, {{1}, {64}}, nullptr).ok());
    return OkStatus();
  };
  ExpectSameBits(1);
  step_->extra = lose;
  const Status lost = step_->Decode(std::vector<size_t>{0, 1});
  step_->extra = nullptr;
  EXPECT_EQ(lost.code(), StatusCode::kInternal);
  EXPECT_NE(lost.message().find("cudaErrorLaunchFailure"), std::string::npos)
      << lost.message();
  ExpectCounts(1, 0, 0, 0);
  EXPECT_FALSE(runtime_->recording());
  EXPECT_EQ(runtime_->graphs(), 0);
  // As after every error of the device.
  const Status later = plain_->Decode(std::vector<size_t>{0});
  EXPECT_EQ(later.code(), StatusCode::kInternal);
  EXPECT_EQ(plain_->Decode(std::vector<size_t>{1}).message(), later.message());
}

TEST_F(RepeatTest, MemoryFreedWhileRecordingIsFreedAfterwards) {
  Buffer x = Allocated(1 << 20);
  int calls = 0;
  ExpectSameBits(1);
  step_->extra = [&] {
    ++calls;
    x = Buffer();
    return OkStatus();
  };
  size_t before = 0, after = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  ExpectSameBits(4);
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_GT(after, before + (1 << 19));
  EXPECT_EQ(calls, 1) << "steps that are repeated ask for nothing";
  step_->extra = nullptr;
}

}  // namespace
}  // namespace sinklora::kernels
