// SPDX-License-Identifier: Apache-2.0
#include "services/inference/engine.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/text/utf8.h"
#include "tests/services/inference/core_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class EngineTest : public CoreTest {};

TEST_F(EngineTest, GreedyIsDeterministicAndEndsAtMaxTokens) {
  ASSERT_OK_AND_ASSIGN(const Collected first, Generate(Params(24)));
  ASSERT_OK_AND_ASSIGN(const Collected second, Generate(Params(24)));
  EXPECT_EQ(first.ids, second.ids);
  EXPECT_EQ(first.text, second.text);
  EXPECT_EQ(first.ids.size(), 24u);
  EXPECT_GT(std::set<int32_t>(first.ids.begin(), first.ids.end()).size(), 2u);
  EXPECT_EQ(first.result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(first.result.usage.generated_tokens, 24);
  EXPECT_EQ(first.result.usage.prompt_tokens, 60);
  // The last token is never fed.
  EXPECT_EQ(first.result.usage.cache.resident_tokens, 60 + 23);
  EXPECT_EQ(first.result.usage.cache.evicted_tokens, 0);
  // The CPU is asked op by op.
  EXPECT_EQ(metrics_->decode_steps(StepKind::kRun)->Value(), 2 * 23);
  EXPECT_EQ(metrics_->decode_steps(StepKind::kRepeated)->Value(), 0);
}

TEST_F(EngineTest, PiecesAreValidTextAndAddUpToTheDecodedIds) {
  GenerationParams params = Params(60);
  params.sampling = {.temperature = 3.0, .seed = 5};
  ASSERT_OK_AND_ASSIGN(const Collected all, Generate(params));
  for (const std::string& piece : all.pieces) {
    EXPECT_EQ(FindInvalidUtf8(piece), std::string::npos) << piece;
  }
  ASSERT_OK_AND_ASSIGN(const std::string decoded,
                       DecodeIds(Target()->tokenizer(), all.ids));
  EXPECT_EQ(all.text, decoded);
}

TEST_F(EngineTest, ASeedReproducesItsText) {
  GenerationParams params = Params(40);
  params.sampling = {.temperature = 1.0, .top_k = 50, .seed = 11};
  ASSERT_OK_AND_ASSIGN(const Collected first, Generate(params));
  ASSERT_OK_AND_ASSIGN(const Collected second, Generate(params));
  params.sampling.seed = 12;
  ASSERT_OK_AND_ASSIGN(const Collected other, Generate(params));
  EXPECT_EQ(first.ids, second.ids);
  EXPECT_NE(first.ids, other.ids);
}

// What ends a generation does not depend on what its cache has forgotten.
class EngineStopTest : public CoreTest,
                       public ::testing::WithParamInterface<CachePolicyKind> {
 protected:
  // All but the full cache forget most of the prompt, and go on forgetting.
  static GenerationParams PolicyParams(int64_t max_tokens) {
    GenerationParams params = Params(max_tokens);
    params.cache.policy = GetParam();
    if (GetParam() != CachePolicyKind::kFull) params.cache.budget_tokens = 16;
    return params;
  }
  static void ExpectEvictions(const GenerationUsage& usage) {
    const int64_t fed = usage.prompt_tokens + usage.generated_tokens - 1;
    EXPECT_EQ(usage.cache.evicted_tokens,
              GetParam() == CachePolicyKind::kFull ? 0 : fed - 16);
  }
};

INSTANTIATE_TEST_SUITE_P(Policies, EngineStopTest,
                         ::testing::Values(CachePolicyKind::kFull,
                                           CachePolicyKind::kH2o,
                                           CachePolicyKind::kStreamingLlm),
                         [](const auto& info) {
                           return std::string(PolicyLabel(info.param));
                         });

TEST_P(EngineStopTest, AStopStringThatSpansPiecesIsNeverEmitted) {
  GenerationParams params = PolicyParams(60);
  params.sampling = {.temperature = 2.0, .seed = 3};
  ASSERT_OK_AND_ASSIGN(const Collected all, Generate(params));
  // The end of one piece and the beginning of the next, both not empty.
  size_t begin = 0;
  std::string stop;
  for (size_t i = 0; i + 1 < all.pieces.size() && stop.empty(); ++i) {
    const std::string pair = all.pieces[i] + all.pieces[i + 1];
    if (i >= 10 && !all.pieces[i].empty() && !all.pieces[i + 1].empty() &&
        all.text.find(pair) == begin) {
      stop = pair;
    } else {
      begin += all.pieces[i].size();
    }
  }
  ASSERT_FALSE(stop.empty());

  params.stop = {"not in the text, surely", stop};
  ASSERT_OK_AND_ASSIGN(const Collected stopped, Generate(params));
  EXPECT_EQ(stopped.text, all.text.substr(0, begin));
  EXPECT_EQ(stopped.result.finish_reason, FinishReason::kStop);
  EXPECT_LT(stopped.result.usage.generated_tokens, 60);
  ExpectEvictions(stopped.result.usage);
}

TEST_P(EngineStopTest, AnEndTokenStopsUnlessIgnored) {
  ASSERT_OK_AND_ASSIGN(const Collected all, Generate(PolicyParams(20)));
  GenerationParams params = PolicyParams(20);
  ASSERT_OK_AND_ASSIGN(GenerationRequest request,
                       PrepareGeneration(Target(), std::move(params)));
  request.end_ids = {all.ids[7]};
  size_t first = 0;
  while (all.ids[first] != all.ids[7]) ++first;
  ASSERT_OK_AND_ASSIGN(const auto generation,
                       engine_->Submit(std::move(request)));
  ASSERT_OK_AND_ASSIGN(const Collected ended, Collect(generation.get()));
  EXPECT_EQ(ended.result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(ended.ids.size(), first + 1);
  ExpectEvictions(ended.result.usage);
}

TEST_F(EngineTest, ChunkedPrefillGivesTheSameTokens) {
  GenerationParams params = Params(16, 100);
  params.cache.policy = CachePolicyKind::kH2o;
  params.cache.budget_tokens = 32;
  ASSERT_OK_AND_ASSIGN(const Collected whole, Generate(params));
  Start({.prefill_chunk_tokens = 7});
  ASSERT_OK_AND_ASSIGN(const Collected chunked, Generate(params));
  EXPECT_EQ(whole.ids, chunked.ids);
}

TEST_F(EngineTest, H2oWithRoomForAllEqualsTheFullCache) {
  GenerationParams params = Params(32);
  ASSERT_OK_AND_ASSIGN(const Collected full, Generate(params));
  params.cache.policy = CachePolicyKind::kH2o;
  params.cache.budget_tokens = 60 + 32;
  ASSERT_OK_AND_ASSIGN(const Collected h2o, Generate(params));
  EXPECT_EQ(full.ids, h2o.ids);
  EXPECT_EQ(h2o.result.usage.cache.evicted_tokens, 0);
}

TEST_F(EngineTest, H2oHoldsItsBudgetAndCountsWhatItEvicts) {
  GenerationParams params = Params(32, 160);
  ASSERT_OK_AND_ASSIGN(const Collected full, Generate(params));
  params.cache.policy = CachePolicyKind::kH2o;
  params.cache.prompt_ratio = 0.2;
  ASSERT_OK_AND_ASSIGN(const Collected h2o, Generate(params));
  const CacheUsage& usage = h2o.result.usage.cache;
  EXPECT_EQ(usage.resident_tokens, 32);
  EXPECT_EQ(usage.evicted_tokens, 160 + 31 - 32);
  EXPECT_LT(usage.resident_bytes, full.result.usage.cache.resident_bytes);
  EXPECT_GE(usage.peak_resident_bytes, usage.resident_bytes);
  EXPECT_THAT(Metrics(),
              HasSubstr("sinklora_inference_kv_evicted_tokens_total{policy="
                        "\"h2o\"} 159"));
  // One of the two forgot, and only that is measured.
  EXPECT_THAT(
      Metrics(),
      HasSubstr("sinklora_inference_kv_retained_attention_mass_ratio_count 1"));
  EXPECT_THAT(Metrics(),
              HasSubstr("sinklora_inference_kv_retained_attention_mass_ratio_"
                        "bucket{le=\"1\"} 1"));
  EXPECT_THAT(
      Metrics(),
      AllOf(
          HasSubstr("sinklora_inference_generations_total{policy=\"full\"} 1"),
          HasSubstr("sinklora_inference_generations_total{policy=\"h2o\"} 1")));
}

TEST_F(EngineTest, ManyAtOnceEqualEachAlone) {
  std::vector<GenerationParams> requests;
  for (int i = 0; i < 8; ++i) {
    GenerationParams params = Params(10 + 3 * i, 20 + 25 * i);
    if (i % 2 == 1) {
      params.cache.policy = CachePolicyKind::kH2o;
      params.cache.budget_tokens = 16 + i;
    }
    if (i % 3 == 2) params.sampling = {.temperature = 1.0, .seed = 9};
    requests.push_back(std::move(params));
  }
  std::vector<Collected> alone;
  for (const GenerationParams& params : requests) {
    ASSERT_OK_AND_ASSIGN(Collected collected, Generate(params));
    alone.push_back(std::move(collected));
  }
  Start({.max_running_requests = 5, .prefill_chunk_tokens = 16});
  std::vector<std::unique_ptr<Generation>> together;
  for (const GenerationParams& params : requests) {
    ASSERT_OK_AND_ASSIGN(auto generation, Submit(params));
    together.push_back(std::move(generation));
  }
  for (size_t i = 0; i < together.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const Collected collected, Collect(together[i].get()));
    EXPECT_EQ(collected.ids, alone[i].ids) << i;
    EXPECT_EQ(collected.text, alone[i].text) << i;
  }
}

TEST_F(EngineTest, AnErrorEndsItsOwnRequestOnly) {
  ASSERT_OK_AND_ASSIGN(const Collected alone, Generate(Params(30)));
  ASSERT_OK_AND_ASSIGN(GenerationRequest broken,
                       PrepareGeneration(Target(), Params(30)));
  broken.prompt[40] = 1 << 20;  // no such token
  ASSERT_OK_AND_ASSIGN(const auto good, Submit(Params(30)));
  ASSERT_OK_AND_ASSIGN(const auto bad, engine_->Submit(std::move(broken)));
  EXPECT_FALSE(Collect(bad.get()).ok());
  ASSERT_OK_AND_ASSIGN(const Collected collected, Collect(good.get()));
  EXPECT_EQ(collected.ids, alone.ids);
  EXPECT_EQ(metrics_->finished(EndReason::kError)->Value(), 1);
}

// A tokenizer on a host without memory: throws when it is asked for the text of
// the n-th token.
class ThrowingTokenizer final : public Tokenizer {
 public:
  ThrowingTokenizer(const Tokenizer* tokenizer, int tokens)
      : tokenizer_(tokenizer), tokens_left_(tokens) {}
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options) const override {
    return tokenizer_->Encode(text, options);
  }
  absl::StatusOr<std::string> Decode(
      std::span<const int32_t> ids) const override {
    return tokenizer_->Decode(ids);
  }
  std::string TokenBytes(int32_t id) const override {
    if (--tokens_left_ < 0) throw std::bad_alloc();
    return tokenizer_->TokenBytes(id);
  }
  LeadingSpace leading_space() const override {
    return tokenizer_->leading_space();
  }
  bool KeepsLeadingSpace(int32_t id) const override {
    return tokenizer_->KeepsLeadingSpace(id);
  }
  int32_t vocab_size() const override { return tokenizer_->vocab_size(); }
  std::optional<int32_t> SpecialTokenId(std::string_view text) const override {
    return tokenizer_->SpecialTokenId(text);
  }

 private:
  const Tokenizer* const tokenizer_;
  mutable int tokens_left_;
};

TEST_F(EngineTest, AnExceptionEndsItsOwnRequestOnly) {
  ASSERT_OK_AND_ASSIGN(const Collected alone, Generate(Params(30)));
  const auto target = Target();
  const auto base = std::make_shared<LoadedBase>(*target->base);
  base->tokenizer =
      std::make_shared<ThrowingTokenizer>(&target->tokenizer(), 5);
  const auto broken = std::make_shared<ServedTarget>();
  broken->base = base;
  broken->model = target->model;
  ASSERT_OK_AND_ASSIGN(const auto good, Submit(Params(30)));
  ASSERT_OK_AND_ASSIGN(GenerationRequest request,
                       PrepareGeneration(broken, Params(30)));
  ASSERT_OK_AND_ASSIGN(const auto bad, engine_->Submit(std::move(request)));
  EXPECT_THAT(Collect(bad.get()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const Collected collected, Collect(good.get()));
  EXPECT_EQ(collected.ids, alone.ids);
  EXPECT_EQ(metrics_->finished(EndReason::kError)->Value(), 1);
  engine_->WaitUntilIdle();
  EXPECT_EQ(metrics_->policy(CachePolicyKind::kFull).resident_tokens->Value(),
            0);
}

TEST_F(EngineTest, AThrowingTaskFailsAlone) {
  EXPECT_THAT(engine_->Run([](kernels::Backend*) -> absl::Status {
    throw std::bad_alloc();
  }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(engine_->RunInternal([](kernels::Backend*) -> absl::Status {
    throw std::runtime_error("/a/secret/path");
  }),
              StatusIs(absl::StatusCode::kInternal, "internal error"));
  engine_->Post([] { throw 7; });
  EXPECT_OK(Generate(Params(5)));
  EXPECT_EQ(metrics_->requests_running->Value(), 0);
}

TEST_F(EngineTest, AnAbandonedRequestFreesItsSlotAndCache) {
  Start({.max_running_requests = 1, .max_pending_deltas = 1});
  {
    ASSERT_OK_AND_ASSIGN(const auto generation, Submit(Params(100)));
    GenerationDelta delta;
    ASSERT_TRUE(generation->Next(&delta));
    EXPECT_EQ(metrics_->requests_running->Value(), 1);
  }
  engine_->WaitUntilIdle();
  EXPECT_EQ(metrics_->requests_running->Value(), 0);
  const auto& policy = metrics_->policy(CachePolicyKind::kFull);
  EXPECT_EQ(policy.resident_tokens->Value(), 0);
  EXPECT_EQ(policy.resident_bytes->Value(), 0);
  EXPECT_EQ(metrics_->finished(EndReason::kCancelled)->Value(), 1);
  EXPECT_OK(Generate(Params(5)));
}

TEST_F(EngineTest, ACancelledWaitingRequestLeavesTheQueue) {
  Start({.max_running_requests = 1, .max_pending_deltas = 1});
  ASSERT_OK_AND_ASSIGN(const auto running, Submit(Params(100)));
  ASSERT_OK_AND_ASSIGN(GenerationRequest request,
                       PrepareGeneration(Target(), Params(5)));
  auto cancellation = std::make_shared<Cancellation>();
  request.cancellation = cancellation;
  ASSERT_OK_AND_ASSIGN(const auto waiting, engine_->Submit(std::move(request)));
  cancellation->Cancel();
  EXPECT_THAT(Collect(waiting.get()), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(metrics_->requests_queued->Value(), 0);
  EXPECT_EQ(metrics_->requests_running->Value(), 1);
}

TEST_F(EngineTest, AFullQueueRefusesWithItsLimit) {
  Start({.max_running_requests = 1,
         .max_waiting_requests = 1,
         .max_pending_deltas = 1});
  ASSERT_OK_AND_ASSIGN(const auto running, Submit(Params(50)));
  ASSERT_OK_AND_ASSIGN(const auto waiting, Submit(Params(5)));
  EXPECT_THAT(Submit(Params(5)), StatusIs(absl::StatusCode::kResourceExhausted,
                                          AllOf(HasSubstr("at most 1 may run"),
                                                HasSubstr("1 wait"))));
  EXPECT_THAT(engine_->Run([](kernels::Backend*) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(metrics_->rejected(RejectReason::kQueueFull)->Value(), 2);
  EXPECT_EQ(metrics_->rejected(RejectReason::kDraining)->Value(), 0);
  EXPECT_OK(Collect(running.get()));
  EXPECT_OK(Collect(waiting.get()));
}

// Memory of the loaded sample and, beside it, of `plans` generations of
// Params(50).
class EngineMemoryTest : public EngineTest {
 protected:
  void StartWithRoomFor(double plans, int max_pending_deltas) {
    {
      const auto target = Target();  // must not outlive the engine
      plan_bytes_ = PlanSequence(*target->model,
                                 {CachePolicyKind::kFull, 110, 110}, 110, 60)
                        .peak_bytes();
    }
    int64_t held = 0;
    EXPECT_OK(engine_->RunInternal([&](kernels::Backend* backend) {
      held = backend->allocated_bytes();
      return absl::OkStatus();
    }));
    limit_bytes_ =
        held + static_cast<int64_t>(plans * static_cast<double>(plan_bytes_));
    Start({.max_pending_deltas = max_pending_deltas,
           .max_memory_bytes = limit_bytes_});
  }
  int64_t plan_bytes_ = 0, limit_bytes_ = 0;
};

TEST_F(EngineMemoryTest, WhatDoesNotFitBesideOthersWaitsForThem) {
  // Not for a second one even when the first has read its prompt and holds only
  // its cache.
  StartWithRoomFor(1.1, /*max_pending_deltas=*/1);
  ASSERT_OK_AND_ASSIGN(const auto running, Submit(Params(50)));
  ASSERT_OK_AND_ASSIGN(const auto waiting, Submit(Params(50)));
  GenerationDelta delta;
  ASSERT_TRUE(running->Next(&delta));
  // The engine takes its tasks between turns: it has looked at both by now.
  EXPECT_OK(
      engine_->RunInternal([](kernels::Backend*) { return absl::OkStatus(); }));
  EXPECT_EQ(metrics_->requests_running->Value(), 1);
  EXPECT_EQ(metrics_->requests_queued->Value(), 1);
  EXPECT_GT(metrics_->memory_planned_bytes->Value(), 0);
  EXPECT_LE(metrics_->memory_planned_bytes->Value(), plan_bytes_);
  EXPECT_OK(Collect(running.get()));
  EXPECT_OK(Collect(waiting.get()));
  EXPECT_EQ(metrics_->memory_limit_bytes->Value(), limit_bytes_);
  EXPECT_EQ(metrics_->rejected(RejectReason::kMemory)->Value(), 0);
}

TEST_F(EngineMemoryTest, WhatWouldNeverFitIsRefusedWithTheNumbers) {
  StartWithRoomFor(0.5, /*max_pending_deltas=*/64);
  const absl::Status status = Generate(Params(50)).status();
  EXPECT_THAT(
      status,
      StatusIs(absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr(fmt::format("needs {} bytes", plan_bytes_)),
                     HasSubstr(fmt::format("of {}", limit_bytes_)))));
  EXPECT_EQ(GetErrorDetail(status).reason, "MEMORY");
  EXPECT_EQ(metrics_->rejected(RejectReason::kMemory)->Value(), 1);
  EXPECT_EQ(metrics_->memory_planned_bytes->Value(), 0);
  // A cache of a few tokens fits. So does the next request of another client.
  GenerationParams small = Params(1, /*prompt_tokens=*/2);
  EXPECT_OK(Generate(small));
}

TEST_F(EngineTest, DrainFinishesWhatRunsAndRefusesTheRest) {
  ASSERT_OK_AND_ASSIGN(const auto generation, Submit(Params(50)));
  ASSERT_OK_AND_ASSIGN(GenerationRequest late,
                       PrepareGeneration(Target(), Params(5)));
  engine_->Drain();
  EXPECT_THAT(engine_->Submit(std::move(late)),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(engine_->CheckAccepting(),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(metrics_->rejected(RejectReason::kDraining)->Value(), 2);
  EXPECT_THAT(engine_->Run([](kernels::Backend*) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_OK_AND_ASSIGN(const Collected collected, Collect(generation.get()));
  EXPECT_EQ(collected.ids.size(), 50u);
  engine_->WaitUntilIdle();
}

TEST_F(EngineTest, StoppingEndsRunningRequestsAsCancelled) {
  Start({.max_running_requests = 1, .max_pending_deltas = 1});
  ASSERT_OK_AND_ASSIGN(const auto running, Submit(Params(100)));
  ASSERT_OK_AND_ASSIGN(const auto waiting, Submit(Params(100)));
  models_.reset();
  engine_.reset();
  EXPECT_THAT(Collect(running.get()), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(Collect(waiting.get()), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(EngineTest, ATaskReturnsItsOwnStatus) {
  EXPECT_OK(engine_->Run([](kernels::Backend* backend) {
    return backend != nullptr ? absl::OkStatus() : absl::InternalError("");
  }));
  EXPECT_THAT(engine_->Run([](kernels::Backend*) {
    return absl::DataLossError("lost");
  }),
              StatusIs(absl::StatusCode::kDataLoss, "lost"));
}

TEST_F(EngineTest, LimitsAreChecked) {
  std::unique_ptr<kernels::Backend> backend;
  ASSERT_OK(kernels::OpenBackend("cpu", {.num_threads = 1}, &backend));
  EXPECT_THAT(Engine::Create({.max_running_requests = 0}, std::move(backend),
                             metrics_.get(), &clock_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("max_running_requests is 0")));
}

TEST_F(EngineTest, EveryFamilyExistsFromTheStart) {
  for (const char* name :
       {"sinklora_inference_requests_total{code=\"OK\",method=\"Score\"} 0",
        "sinklora_inference_finished_total{reason=\"stop\"} 0",
        "sinklora_inference_kv_resident_bytes{policy=\"streaming_llm\"} 0",
        "sinklora_inference_kv_evicted_tokens_total{policy=\"h2o\"} 0",
        "sinklora_inference_score_errors_total 0",
        "sinklora_inference_request_duration_seconds_count",
        "sinklora_inference_time_to_first_token_seconds_count 0",
        "sinklora_inference_loaded_models 0"}) {
    EXPECT_THAT(Metrics(), HasSubstr(name));
  }
}

}  // namespace
}  // namespace sinklora::inference
