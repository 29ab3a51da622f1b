// The whole inference service over gRPC on loopback, against a registry that
// serves the sample artifacts.
//
// SPDX-License-Identifier: Apache-2.0
#include "services/inference/inference_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "common/rpc/status_translation.h"
#include "services/inference/inference.h"
#include "tests/services/inference/fake_registry.h"
#include "tests/services/inference/sample_artifacts.h"
#include "tests/testing/matchers.h"

namespace sinklora::inference {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Everything one Generate call sent.
struct Answer {
  absl::Status status;
  v1::GenerateStarted started;
  std::string text;
  std::vector<int32_t> ids;
  v1::GenerateFinished finished;
};

class InferenceServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(sample_, MakeSampleArtifacts());
    registry_ = std::make_unique<FakeRegistry>(sample_.source.get());
    ASSERT_OK_AND_ASSIGN(registry_server_,
                         RpcServer::Create({}, {registry_.get()}));
    registry_address_ = registry_server_->address();
    InferenceOptions options;
    options.cache_dir = sample_.Path("cache");
    options.registry_address = [this] { return registry_address_; };
    options.device = "cpu";
    options.threads = 1;
    options.weight_type = weight_type_;
    options.cache_storage = cache_storage_;
    options.limits.max_memory_bytes = max_memory_bytes_;
    options.metrics = metrics_.get();
    options.executor = executor_.get();
    options.clock = RealClock();
    ASSERT_OK_AND_ASSIGN(inference_, Inference::Create(options));
    ASSERT_OK_AND_ASSIGN(server_,
                         RpcServer::Create({}, {inference_->service()}));
    stub_ = v1::InferenceService::NewStub(MakeChannel(server_->address()));
  }

  void TearDown() override {
    stub_.reset();
    if (server_) server_->Drain(5);
    server_.reset();
    executor_->Shutdown();
    inference_.reset();
    if (registry_server_) registry_server_->Drain(5);
  }

  static v1::GenerateRequest Request(int max_tokens = 16) {
    v1::GenerateRequest request;
    request.mutable_target()->set_model("tiny");
    request.set_text("The old keeper lit the lamp, and");
    request.set_max_tokens(max_tokens);
    request.set_ignore_eos(true);
    return request;
  }

  Answer Generate(const v1::GenerateRequest& request) {
    Answer answer;
    const auto context = MakeContext(60);
    const auto reader = stub_->Generate(context.get(), request);
    v1::GenerateResponse response;
    int messages = 0;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.has_started(), messages == 0);
      ++messages;
      if (response.has_started()) answer.started = response.started();
      if (response.has_delta()) {
        answer.text += response.delta().text();
        answer.ids.insert(answer.ids.end(),
                          response.delta().token_ids().begin(),
                          response.delta().token_ids().end());
      }
      if (response.has_finished()) answer.finished = response.finished();
    }
    answer.status = FromGrpc(reader->Finish());
    return answer;
  }

  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) {
    v1::TokenizeResponse response;
    const auto context = MakeContext(60);
    SL_RETURN_IF_ERROR(
        FromGrpc(stub_->Tokenize(context.get(), request, &response)));
    return response;
  }

  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) {
    v1::ScoreResponse response;
    const auto context = MakeContext(60);
    SL_RETURN_IF_ERROR(
        FromGrpc(stub_->Score(context.get(), request, &response)));
    return response;
  }

  absl::StatusOr<v1::LoadedModel> Load(const std::string& model,
                                       const std::string& adapter = "") {
    v1::LoadModelRequest request;
    request.mutable_target()->set_model(model);
    request.mutable_target()->set_adapter(adapter);
    v1::LoadModelResponse response;
    const auto context = MakeContext(60);
    SL_RETURN_IF_ERROR(
        FromGrpc(stub_->LoadModel(context.get(), request, &response)));
    return response.loaded();
  }

  v1::ListModelsResponse List() {
    v1::ListModelsResponse response;
    const auto context = MakeContext(60);
    EXPECT_OK(FromGrpc(stub_->ListModels(context.get(), {}, &response)));
    return response;
  }

  // Value of a series as the text names it; -1 when it is not there.
  double Metric(const std::string& series) const {
    const std::string text = metrics_->Serialize();
    const size_t at = text.find("\n" + series + " ");
    if (at == std::string::npos) return -1;
    return std::stod(text.substr(at + series.size() + 2));
  }
  // False when the series does not get this value within a minute.
  bool WaitForMetric(const std::string& series, double value) const {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (Metric(series) != value) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  WeightType weight_type_ = WeightType::kFloat32;
  std::optional<CacheStorage> cache_storage_;
  int64_t max_memory_bytes_ = 0;
  SampleArtifacts sample_;
  std::unique_ptr<MetricsRegistry> metrics_ = MetricsRegistry::Create();
  std::unique_ptr<Executor> executor_ = Executor::Create({.name = "test"});
  std::unique_ptr<FakeRegistry> registry_;
  std::unique_ptr<RpcServer> registry_server_;
  std::string registry_address_;
  std::unique_ptr<Inference> inference_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
};

TEST_F(InferenceServiceTest, StreamsStartedDeltasFinished) {
  const Answer answer = Generate(Request());
  ASSERT_OK(answer.status);
  EXPECT_EQ(answer.started.context_tokens(), kTinyContextTokens);
  EXPECT_EQ(answer.started.max_tokens(), 16);
  EXPECT_EQ(answer.started.sampling().top_p(), 1.0);
  EXPECT_EQ(answer.ids.size(), 16u);
  EXPECT_EQ(answer.finished.finish_reason(), v1::FINISH_REASON_LENGTH);
  const v1::Usage& usage = answer.finished.usage();
  EXPECT_EQ(usage.generated_tokens(), 16);
  EXPECT_EQ(usage.prompt_tokens(), answer.started.prompt_tokens());
  EXPECT_EQ(usage.resident_tokens(), usage.prompt_tokens() + 15);
  EXPECT_GT(usage.resident_bytes(), 0);
  EXPECT_GT(usage.prefill_seconds(), 0);
  EXPECT_GE(usage.time_to_first_token_seconds(), usage.prefill_seconds());
  EXPECT_EQ(Generate(Request()).ids, answer.ids);

  v1::TokenizeRequest decode;
  decode.mutable_target()->set_model("tiny");
  decode.mutable_token_ids()->mutable_ids()->Add(answer.ids.begin(),
                                                 answer.ids.end());
  ASSERT_OK_AND_ASSIGN(const v1::TokenizeResponse decoded, Tokenize(decode));
  EXPECT_EQ(decoded.text(), answer.text);
}

TEST_F(InferenceServiceTest, EchoesTheResolvedCacheOfEveryPolicy) {
  for (const v1::CachePolicy policy :
       {v1::CACHE_POLICY_UNSPECIFIED, v1::CACHE_POLICY_FULL,
        v1::CACHE_POLICY_SLIDING_WINDOW, v1::CACHE_POLICY_STREAMING_LLM,
        v1::CACHE_POLICY_H2O}) {
    v1::GenerateRequest request = Request(4);
    request.mutable_cache()->set_policy(policy);
    const bool full = policy == v1::CACHE_POLICY_UNSPECIFIED ||
                      policy == v1::CACHE_POLICY_FULL;
    if (!full) request.mutable_cache()->set_budget_tokens(16);
    const Answer answer = Generate(request);
    ASSERT_OK(answer.status);
    const v1::ResolvedCache& cache = answer.started.cache();
    EXPECT_EQ(cache.policy(), full ? v1::CACHE_POLICY_FULL : policy);
    EXPECT_EQ(cache.budget_tokens(), full ? kTinyContextTokens : 16);
    if (full) continue;
    EXPECT_EQ(
        cache.sink_tokens() + cache.heavy_tokens() + cache.recent_tokens(), 16);
    EXPECT_EQ(answer.finished.usage().resident_tokens(), 16);
  }
}

TEST_F(InferenceServiceTest, RatiosResolveAgainstPromptAndContext) {
  v1::GenerateRequest request = Request(2);
  request.mutable_cache()->set_policy(v1::CACHE_POLICY_H2O);
  request.mutable_cache()->set_context_ratio(0.25);
  EXPECT_EQ(Generate(request).started.cache().budget_tokens(), 64);
  request.mutable_cache()->set_prompt_ratio(0.5);
  const Answer answer = Generate(request);
  EXPECT_EQ(answer.started.cache().budget_tokens(),
            std::llround(0.5 * answer.started.prompt_tokens()));
}

TEST_F(InferenceServiceTest, CacheStorageIsEchoedAndCounted) {
  v1::GenerateRequest request = Request();
  const Answer plain = Generate(request);
  ASSERT_OK(plain.status);
  EXPECT_EQ(plain.started.cache().storage(), v1::CACHE_STORAGE_FLOAT32);
  request.mutable_cache()->set_storage(v1::CACHE_STORAGE_BFLOAT16);
  const Answer bf16 = Generate(request);
  ASSERT_OK(bf16.status);
  EXPECT_EQ(bf16.started.cache().storage(), v1::CACHE_STORAGE_BFLOAT16);
  EXPECT_EQ(2 * bf16.finished.usage().resident_bytes(),
            plain.finished.usage().resident_bytes());
  request.mutable_cache()->set_storage(v1::CACHE_STORAGE_INT8);
  request.mutable_cache()->set_policy(v1::CACHE_POLICY_H2O);
  request.mutable_cache()->set_prompt_ratio(0.5);
  const Answer int8 = Generate(request);
  ASSERT_OK(int8.status);
  EXPECT_EQ(int8.started.cache().storage(), v1::CACHE_STORAGE_INT8);
  EXPECT_EQ(int8.ids.size(), 16u);
  EXPECT_LT(int8.finished.usage().peak_resident_bytes(),
            0.5 * plain.finished.usage().peak_resident_bytes());
}

TEST_F(InferenceServiceTest, BadRequestsNameTheFieldAndTheLimit) {
  const auto refusal = [this](const v1::GenerateRequest& request) {
    const absl::Status status = Generate(request).status;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_FALSE(GetErrorDetail(status).reason.empty());
    return std::string(status.message());
  };
  v1::GenerateRequest request = Request();
  request.clear_text();
  EXPECT_THAT(refusal(request), HasSubstr("prompt"));
  request = Request(1000);
  EXPECT_THAT(refusal(request), AllOf(HasSubstr("1000"), HasSubstr("256")));
  request = Request();
  request.mutable_cache()->set_policy(v1::CACHE_POLICY_H2O);
  EXPECT_THAT(refusal(request), HasSubstr("budget"));
  request.mutable_cache()->set_budget_tokens(0);
  EXPECT_THAT(refusal(request), HasSubstr("budget"));
  request.mutable_cache()->set_budget_tokens(8);
  request.mutable_cache()->set_recent_tokens(9);
  EXPECT_THAT(refusal(request), HasSubstr("recent"));
  request = Request();
  request.mutable_cache()->set_policy(static_cast<v1::CachePolicy>(9));
  EXPECT_THAT(refusal(request), HasSubstr("cache.policy is 9"));
  request = Request();
  request.mutable_cache()->set_storage(static_cast<v1::CacheStorage>(7));
  EXPECT_THAT(refusal(request), HasSubstr("cache.storage is 7"));
  request = Request();
  request.mutable_sampling()->set_top_p(0);
  EXPECT_THAT(refusal(request), HasSubstr("top_p"));
  request = Request();
  request.add_stop("");
  EXPECT_THAT(refusal(request), HasSubstr("stop[0]"));
  request = Request();
  request.mutable_target()->clear_model();
  EXPECT_THAT(refusal(request), HasSubstr("target.model"));
}

TEST_F(InferenceServiceTest, UnknownNamesAndWrongBasesAreErrors) {
  v1::GenerateRequest request = Request();
  request.mutable_target()->set_model("absent");
  EXPECT_THAT(Generate(request).status,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  request.mutable_target()->set_model("tiny");
  request.mutable_target()->set_adapter("absent");
  EXPECT_THAT(Generate(request).status,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  request.mutable_target()->set_model("other");
  request.mutable_target()->set_adapter("tuned");
  EXPECT_THAT(Generate(request).status,
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(InferenceServiceTest, AnAdapterBringsItsContextAndItsWords) {
  const Answer base = Generate(Request(32));
  v1::GenerateRequest request = Request(32);
  request.mutable_target()->set_adapter("tuned");
  const Answer tuned = Generate(request);
  ASSERT_OK(tuned.status);
  EXPECT_EQ(tuned.started.context_tokens(), kTunedContextTokens);
  EXPECT_NE(tuned.ids, base.ids);
}

TEST_F(InferenceServiceTest, ChatsAreAnswered) {
  v1::GenerateRequest request = Request(8);
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("Who keeps the lamp?");
  EXPECT_OK(Generate(request).status);
  message->set_role("assistant");
  EXPECT_THAT(Generate(request).status,
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(InferenceServiceTest, SeveralCallsAtOnceEqualEachAlone) {
  ASSERT_OK(Load("tiny").status());
  constexpr int kCalls = 6;
  std::vector<v1::GenerateRequest> requests;
  std::vector<Answer> alone;
  for (int i = 0; i < kCalls; ++i) {
    v1::GenerateRequest request = Request(20 + 5 * i);
    if (i % 2 == 1) {
      request.mutable_cache()->set_policy(v1::CACHE_POLICY_H2O);
      request.mutable_cache()->set_budget_tokens(12);
    }
    if (i % 3 == 0) request.mutable_sampling()->set_temperature(1.0);
    request.mutable_sampling()->set_seed(i);
    requests.push_back(request);
    alone.push_back(Generate(request));
    ASSERT_OK(alone.back().status);
  }
  std::vector<Answer> together(kCalls);
  std::vector<std::thread> threads;
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back([this, &requests, &together, i] {
      together[i] = Generate(requests[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_OK(together[i].status);
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
    EXPECT_EQ(together[i].text, alone[i].text) << i;
  }
}

TEST_F(InferenceServiceTest, ACancelledCallFreesItsSlot) {
  // Would go on for minutes.
  constexpr int kMaxTokens = 60'000;
  v1::GenerateRequest request = Request(kMaxTokens);
  request.mutable_target()->set_context_tokens(65'536);
  const auto context = MakeContext(600);
  const auto reader = stub_->Generate(context.get(), request);
  v1::GenerateResponse response;
  while (!response.has_delta()) ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(Metric("sinklora_inference_requests_running"), 1);
  EXPECT_GT(Metric("sinklora_inference_kv_resident_bytes{policy=\"full\"}"), 0);
  context->TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // Nothing but the cancellation ends it.
  EXPECT_TRUE(WaitForMetric(
      "sinklora_inference_finished_total{reason=\"cancelled\"}", 1));
  EXPECT_TRUE(WaitForMetric("sinklora_inference_requests_running", 0));
  EXPECT_EQ(Metric("sinklora_inference_kv_resident_bytes{policy=\"full\"}"), 0);
  EXPECT_LT(Metric("sinklora_inference_generated_tokens_total"), kMaxTokens);
  EXPECT_OK(Generate(Request()).status);
}

TEST_F(InferenceServiceTest, ScoresAddUpAndAreTextsOwn) {
  v1::ScoreRequest request;
  request.mutable_target()->set_model("tiny");
  request.set_text("The old keeper lit the lamp.");
  request.set_per_token(true);
  ASSERT_OK_AND_ASSIGN(const v1::ScoreResponse all, Score(request));
  EXPECT_EQ(all.nll_size(), all.scored_tokens());
  double sum = 0;
  for (const float nll : all.nll()) sum += nll;
  EXPECT_TRUE(std::abs(sum - all.nll_sum()) <= 1e-3 * all.nll_sum());

  request.set_score_from(5);
  ASSERT_OK_AND_ASSIGN(const v1::ScoreResponse tail, Score(request));
  EXPECT_EQ(tail.scored_tokens(), all.scored_tokens() - 4);
  EXPECT_TRUE(std::abs(tail.nll(0) - all.nll(4)) <= 1e-4);

  request.set_score_from(1000);
  EXPECT_THAT(Score(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000")));
  request.mutable_token_ids()->add_ids(1);
  EXPECT_THAT(Score(request), StatusIs(absl::StatusCode::kInvalidArgument));
  request.clear_token_ids();
  EXPECT_THAT(Score(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("input is missing")));
}

TEST_F(InferenceServiceTest, TokenizesBothWays) {
  v1::TokenizeRequest request;
  request.mutable_target()->set_model("tiny");
  request.set_text("A caf\u00e9 at noon");
  request.set_add_bos(true);
  ASSERT_OK_AND_ASSIGN(const v1::TokenizeResponse ids, Tokenize(request));
  EXPECT_EQ(ids.token_ids(0), 0);
  EXPECT_EQ(ids.context_tokens(), kTinyContextTokens);
  request.mutable_token_ids()->mutable_ids()->CopyFrom(ids.token_ids());
  ASSERT_OK_AND_ASSIGN(const v1::TokenizeResponse text, Tokenize(request));
  EXPECT_EQ(text.text(), "A caf\u00e9 at noon");
  request.mutable_token_ids()->add_ids(5000);
  EXPECT_THAT(Tokenize(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("5000")));
}

TEST_F(InferenceServiceTest, ModelsAreLoadedListedAndUnloaded) {
  EXPECT_EQ(List().loaded_size(), 0);
  ASSERT_OK_AND_ASSIGN(const v1::LoadedModel loaded, Load("tiny", "tuned"));
  EXPECT_EQ(loaded.context_tokens(), kTunedContextTokens);
  EXPECT_EQ(loaded.rope_factor(), 2.0);
  EXPECT_GT(loaded.weight_bytes(), 0);
  EXPECT_EQ(loaded.weight_type(), v1::WEIGHT_TYPE_FLOAT32);
  EXPECT_EQ(loaded.running_requests(), 0);
  ASSERT_OK(Load("tiny", "tuned").status());
  ASSERT_OK(Load("other").status());
  EXPECT_EQ(List().loaded_size(), 2);
  EXPECT_EQ(List().loaded(0).target().model(), "other");
  v1::UnloadModelRequest request;
  request.mutable_target()->set_model("tiny");
  v1::UnloadModelResponse response;
  EXPECT_OK(
      FromGrpc(stub_->UnloadModel(MakeContext(60).get(), request, &response)));
  EXPECT_EQ(List().loaded_size(), 1);
}

TEST_F(InferenceServiceTest, AnUnreachableRegistryIsUnavailable) {
  sample_.source->SetUnreachable(true);
  EXPECT_THAT(Load("tiny"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("registry")));
  sample_.source->SetUnreachable(false);
  EXPECT_OK(Load("tiny"));
  // One that is gone altogether, for a target that is not loaded and one that
  // is.
  registry_server_->Drain(0);
  registry_server_.reset();
  EXPECT_THAT(Load("other"), StatusIs(absl::StatusCode::kUnavailable,
                                      HasSubstr(registry_address_)));
  EXPECT_OK(Generate(Request()).status);
}

TEST_F(InferenceServiceTest, DrainingRefusesNewCalls) {
  ASSERT_OK(Load("tiny").status());
  inference_->Drain();
  EXPECT_THAT(Generate(Request()).status,
              StatusIs(absl::StatusCode::kUnavailable));
  inference_->Stop();
}

TEST_F(InferenceServiceTest, CountsCallsByMethodAndCode) {
  ASSERT_OK(Generate(Request()).status);
  v1::GenerateRequest bad = Request();
  bad.mutable_target()->set_model("absent");
  Generate(bad);
  const std::string text = metrics_->Serialize();
  EXPECT_THAT(text,
              HasSubstr("sinklora_inference_requests_total{code=\"OK\",method="
                        "\"Generate\"} 1"));
  EXPECT_THAT(text, HasSubstr("sinklora_inference_requests_total{code="
                              "\"NOT_FOUND\",method=\"Generate\"} 1"));
  EXPECT_THAT(text, HasSubstr("sinklora_inference_generated_tokens_total 16"));
  EXPECT_THAT(text,
              HasSubstr("sinklora_inference_finished_total{reason=\"length\"} "
                        "1"));
}

class StoredInferenceServiceTest : public InferenceServiceTest {
 protected:
  StoredInferenceServiceTest() { cache_storage_ = CacheStorage::kInt8; }
};

TEST_F(StoredInferenceServiceTest, OneOfTheServiceHoldsWhereNoneIsAskedFor) {
  v1::GenerateRequest request = Request();
  const Answer own = Generate(request);
  ASSERT_OK(own.status);
  EXPECT_EQ(own.started.cache().storage(), v1::CACHE_STORAGE_INT8);
  request.mutable_cache()->set_storage(v1::CACHE_STORAGE_FLOAT32);
  const Answer asked = Generate(request);
  ASSERT_OK(asked.status);
  EXPECT_EQ(asked.started.cache().storage(), v1::CACHE_STORAGE_FLOAT32);
}

class CrampedInferenceServiceTest : public InferenceServiceTest {
 protected:
  CrampedInferenceServiceTest() { max_memory_bytes_ = 1; }
};

TEST_F(CrampedInferenceServiceTest, AGenerationBeyondTheMemoryIsRefusedByName) {
  const Answer answer = Generate(Request());
  EXPECT_THAT(answer.status, StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("the generation needs")));
  EXPECT_EQ(GetErrorDetail(answer.status).reason, "MEMORY");
}

class PackedInferenceServiceTest : public InferenceServiceTest,
                                   public ::testing::WithParamInterface<
                                       std::pair<WeightType, v1::WeightType>> {
 protected:
  PackedInferenceServiceTest() { weight_type_ = GetParam().first; }
};

INSTANTIATE_TEST_SUITE_P(
    All, PackedInferenceServiceTest,
    ::testing::Values(std::pair{WeightType::kBfloat16,
                                v1::WEIGHT_TYPE_BFLOAT16},
                      std::pair{WeightType::kInt8, v1::WEIGHT_TYPE_INT8},
                      std::pair{WeightType::kInt4, v1::WEIGHT_TYPE_INT4}),
    [](const auto& info) { return std::string(NameOf(info.param.first)); });

TEST_P(PackedInferenceServiceTest, TypeIsEchoedAndServesWithAdapters) {
  ASSERT_OK_AND_ASSIGN(const v1::LoadedModel base, Load("tiny"));
  EXPECT_EQ(base.weight_type(), GetParam().second);
  ASSERT_OK_AND_ASSIGN(const v1::LoadedModel tuned, Load("tiny", "tuned"));
  EXPECT_EQ(tuned.weight_type(), GetParam().second);
  EXPECT_GT(tuned.weight_bytes(), base.weight_bytes());
  const v1::ListModelsResponse list = List();
  ASSERT_EQ(list.loaded_size(), 2);
  EXPECT_EQ(list.loaded(0).weight_type(), GetParam().second);
  v1::GenerateRequest request = Request();
  const Answer first = Generate(request);
  ASSERT_OK(first.status);
  EXPECT_EQ(first.ids.size(), 16u);
  EXPECT_EQ(Generate(request).ids, first.ids);
  EXPECT_EQ(first.started.cache().storage(),
            GetParam().first == WeightType::kBfloat16
                ? v1::CACHE_STORAGE_BFLOAT16
                : v1::CACHE_STORAGE_FLOAT32);
  request.mutable_target()->set_adapter("tuned");
  ASSERT_OK(Generate(request).status);
}

TEST(InferenceOptionsTest, MissingOptionsAreNamed) {
  InferenceOptions options;
  EXPECT_THAT(
      Inference::Create(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cache_dir")));
  options.cache_dir = "unused";
  EXPECT_THAT(Inference::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("registry_address")));
}

}  // namespace
}  // namespace sinklora::inference
