// Jobs from submission to result, with a real trainer, real workers and a
// stand-in for the curator.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/status_translation.h"
#include "common/weights/model_files.h"
#include "tests/services/worker/worker_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using trainer::v1::TrainingJob;

TEST_F(WorkerE2eTest, JobRunsToARegisteredAdapter) {
  auto spec = Spec("tuned");
  spec.set_validate_every_steps(4);
  const TrainingJob job = Submit(spec);
  ASSERT_EQ(RunNextJob(), "succeeded");

  std::vector<int64_t> steps;
  std::vector<int64_t> validated;
  std::vector<int64_t> checkpoints;
  double first_loss = 0;
  double last_loss = 0;
  for (const auto& event : Watch(job.name())) {
    if (event.has_checkpoint()) {
      checkpoints.push_back(event.checkpoint().step());
    }
    if (!event.has_metrics()) continue;
    const auto& metrics = event.metrics();
    steps.push_back(metrics.step());
    if (metrics.has_validation_loss()) validated.push_back(metrics.step());
    if (metrics.step() == 1) first_loss = metrics.loss();
    last_loss = metrics.loss();
    EXPECT_EQ(metrics.total_tokens(), metrics.step() * 2 * kContextTokens);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(validated, ElementsAre(4, 6));
  EXPECT_THAT(checkpoints, ElementsAre(2, 4, 6));
  EXPECT_TRUE(last_loss < first_loss) << first_loss << " -> " << last_loss;

  const TrainingJob done = Job(job.name());
  EXPECT_EQ(done.state(), trainer::v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(done.plan().rope_factor(), 2);  // 64 -> 128 tokens
  EXPECT_EQ(done.plan().group_size_tokens(), kContextTokens / 4);
  EXPECT_EQ(done.plan().shifted_heads(), 1);
  EXPECT_EQ(done.plan().sink_tokens(), 4);
  EXPECT_GT(done.plan().trainable_parameters(), 0);
  EXPECT_THAT(done.plan().backend(), HasSubstr(kDevice));
  EXPECT_EQ(done.plan().devices(), 1);
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.context_tokens(), 128);
  EXPECT_EQ(adapter.rope_factor(), 2);
  EXPECT_EQ(adapter.lora_rank(), 8);
  EXPECT_EQ(adapter.lineage().job(), job.name());
  EXPECT_EQ(
      Metric(*worker_metrics_, "sinklora_worker_tokens_total{worker=\"0\"}"),
      6 * 2 * kContextTokens);
  EXPECT_EQ(
      Metric(*worker_metrics_,
             "sinklora_worker_checkpoint_duration_seconds_count{worker=\"0\"}"),
      3);

  // Merged it is a model, and says where it comes from.
  registry::v1::MergeAdapterRequest request;
  request.set_adapter("tuned");
  request.set_model_name("merged");
  request.set_request_id("merge");
  registry::v1::MergeAdapterResponse response;
  const auto context = MakeContext(kTransferTimeoutSeconds);
  ASSERT_OK(
      FromGrpc(registry_->MergeAdapter(context.get(), request, &response)));
  const registry::v1::Model& merged = response.model();
  EXPECT_EQ(merged.architecture().context_tokens(), 128);
  EXPECT_EQ(merged.base_model(), "base");
  EXPECT_EQ(merged.lineage().adapter_digest(), adapter.digest());
  EXPECT_EQ(merged.lineage().job(), job.name());
  EXPECT_EQ(merged.lineage().recipe().steps(), 6);
  EXPECT_LE(merged.lineage().merge_check().max_relative_logit_difference(),
            merged.lineage().merge_check().relative_logit_bound());
}

TEST_F(WorkerE2eTest, FullParameterJobRegistersAModel) {
  auto spec = Spec("tuned-model");
  spec.set_mode(trainer::v1::TUNING_MODE_FULL);
  spec.set_steps(2);
  spec.set_compute_type(trainer::v1::COMPUTE_TYPE_FLOAT32);
  const TrainingJob job = Submit(spec);
  ASSERT_EQ(RunNextJob(), "succeeded") << Job(job.name()).state_reason();
  registry::v1::GetModelRequest request;
  request.set_name("tuned-model");
  registry::v1::GetModelResponse response;
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  ASSERT_OK(FromGrpc(registry_->GetModel(context.get(), request, &response)));
  EXPECT_EQ(response.model().lineage().job(), job.name());
  EXPECT_EQ(response.model().architecture().context_tokens(), 128);
}

TEST_F(WorkerE2eTest, AttemptAfterALostWorkerGivesTheSameBytes) {
  const std::string wanted = UndisturbedDigest(Spec("x"));
  const TrainingJob job = Submit(Spec("tuned"));
  // As if the worker died right after its second checkpoint: its lease runs
  // out, and whatever it still sends is refused.
  hooked_->after_commit = [this](int64_t step) {
    if (step == 4) ExpireLease();
  };
  ASSERT_EQ(RunNextJob(), "abandoned");
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 4);
  EXPECT_GE(Metric(*metrics_, "sinklora_trainer_stale_writes_rejected_total"),
            1);
  hooked_->after_commit = nullptr;
  ASSERT_EQ(RunNextJob(), "succeeded");
  EXPECT_EQ(Job(job.name()).attempt(), 2);
  EXPECT_EQ(Job(job.name()).metrics().total_tokens(), 6 * 2 * kContextTokens);
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
}

// Files that arrived as they were sent, but are no checkpoint: the one before
// is as good a place to go on from.
TEST_F(WorkerE2eTest, CheckpointThatCannotBeLoadedCostsOnlyItsSteps) {
  const std::string wanted = UndisturbedDigest(Spec("x"));
  const TrainingJob job = Submit(Spec("tuned"));
  hooked_->before_commit = [](const auto& header, const std::string& dir) {
    if (header.step() != 4) return;
    ASSERT_OK(RemoveAll(JoinPath(dir, "progress.binpb")));
  };
  hooked_->after_commit = [this](int64_t step) {
    if (step == 4) ExpireLease();
  };
  ASSERT_EQ(RunNextJob(), "abandoned");
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 4);
  hooked_->before_commit = nullptr;
  hooked_->after_commit = nullptr;
  ASSERT_EQ(RunNextJob(), "succeeded") << Job(job.name()).state_reason();
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
  EXPECT_EQ(Job(job.name()).metrics().total_tokens(), 6 * 2 * kContextTokens);
}

TEST_F(WorkerE2eTest, JobWithoutALoadableCheckpointFailsAndSaysSo) {
  const TrainingJob job = Submit(Spec("tuned"));
  hooked_->before_commit = [](const auto&, const std::string& dir) {
    ASSERT_OK(RemoveAll(JoinPath(dir, "progress.binpb")));
  };
  hooked_->after_commit = [this](int64_t step) {
    if (step == 4) ExpireLease();
  };
  ASSERT_EQ(RunNextJob(), "abandoned");
  ASSERT_EQ(RunNextJob(), "failed");
  EXPECT_EQ(Job(job.name()).error_reason(), "CHECKPOINT_BROKEN");
  EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("cannot be loaded"));
}

TEST_F(WorkerE2eTest, CheckpointUnlikeItsManifestIsRefused) {
  const TrainingJob job = Submit(Spec("tuned"));
  hooked_->before_commit = [](const auto&, const std::string& dir) {
    ASSERT_OK(WriteFileAtomic(JoinPath(dir, "state.safetensors"), "short"));
  };
  ASSERT_EQ(RunNextJob(), "failed");
  EXPECT_EQ(Job(job.name()).error_reason(), "INVALID_CHECKPOINT");
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 0);
}

TEST_F(WorkerE2eTest, WorkerWithoutACheckpointStartsOver) {
  auto spec = Spec("x");
  spec.set_checkpoint_every_steps(0);
  const std::string wanted = UndisturbedDigest(spec);
  spec.set_output_name("tuned");
  spec.set_checkpoint_every_steps(3);
  Submit(spec);
  ASSERT_OK(Ask("dies-at-once"));
  ExpireLease();
  ASSERT_EQ(RunNextJob(), "succeeded");
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
}

TEST_F(WorkerE2eTest, CancelLeavesACheckpointThatResumes) {
  auto spec = Spec("x");
  const std::string wanted = UndisturbedDigest(spec);
  spec.set_output_name("tuned");
  spec.set_steps(100'000);  // will not end by itself
  const TrainingJob job = Submit(spec);
  hooked_->after_commit = [&](int64_t step) {
    if (step != 4) return;
    ASSERT_OK(Cancel(job.name()));
    ASSERT_OK(keeper_->Flush());  // brings the news
  };
  ASSERT_EQ(RunNextJob(), "cancelled");
  hooked_->after_commit = nullptr;
  EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 4);

  spec.set_resume_job(job.name());
  spec.set_steps(6);
  Submit(spec);
  ASSERT_EQ(RunNextJob(), "succeeded");
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.digest(), wanted);
}

TEST_F(WorkerE2eTest, CancelledRunCommitsWhatItHasDone) {
  auto spec = Spec("tuned");
  spec.set_steps(100'000);
  spec.set_checkpoint_every_steps(0);
  const TrainingJob job = Submit(spec);
  const auto worker = MakeWorker("w1");
  worker->Start();
  Watch(job.name(), [](const auto& event) { return event.has_metrics(); });
  ASSERT_OK(Cancel(job.name()));
  Watch(job.name());  // to the end
  worker->Stop();
  EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_CANCELLED);
  EXPECT_GE(Job(job.name()).checkpoint_step(), 1);
  EXPECT_EQ(Job(job.name()).checkpoint_step(),
            Job(job.name()).metrics().step());
}

TEST_F(WorkerE2eTest, StoppedWorkerHandsOverItsProgress) {
  auto spec = Spec("tuned");
  spec.set_steps(100'000);
  spec.set_checkpoint_every_steps(0);
  const TrainingJob job = Submit(spec);
  auto first = MakeWorker("w1");
  first->Start();
  Watch(job.name(), [](const auto& event) { return event.has_metrics(); });
  first->Stop();
  const int64_t reached = Job(job.name()).checkpoint_step();
  EXPECT_GE(reached, 1);
  // At once, without waiting for the lease to lapse.
  EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job(job.name()).lost_attempts(), 0);
  EXPECT_EQ(Metric(*metrics_, "sinklora_trainer_lease_expiries_total"), 0);
  auto second = MakeWorker("w2");
  second->Start();
  Watch(job.name(), [&](const auto& event) {
    return event.has_metrics() && event.attempt() == 2;
  });
  EXPECT_GT(Job(job.name()).metrics().step(), reached);
  ASSERT_OK(Cancel(job.name()));
  Watch(job.name());
  second->Stop();
  EXPECT_EQ(
      Metric(*worker_metrics_,
             "sinklora_worker_jobs_total{outcome=\"released\",worker=\"0\"}"),
      1);
}

TEST_F(WorkerE2eTest, TwoWorkersRunEachJobOnce) {
  std::vector<TrainingJob> jobs;
  for (const char* name : {"a", "b", "c", "d"}) {
    jobs.push_back(Submit(Spec(name)));
  }
  auto w1 = MakeWorker("w1");
  auto w2 = MakeWorker("w2");
  w1->Start();
  w2->Start();
  for (const TrainingJob& job : jobs) {
    Watch(job.name());
    EXPECT_EQ(Job(job.name()).state(), trainer::v1::JOB_STATE_SUCCEEDED);
    EXPECT_EQ(Job(job.name()).attempt(), 1);
  }
  w1->Stop();
  w2->Stop();
  EXPECT_EQ(
      Metric(*worker_metrics_,
             "sinklora_worker_jobs_total{outcome=\"succeeded\",worker=\"0\"}"),
      4);
  ASSERT_OK_AND_ASSIGN(const auto a, Adapter("a"));
  ASSERT_OK_AND_ASSIGN(const auto d, Adapter("d"));
  EXPECT_EQ(a.digest(), d.digest());  // same spec, same bytes
}

TEST_F(WorkerE2eTest, NonFiniteLossFailsTheJobAlone) {
  // With such a decay every step makes the LoRA matrices nine times larger.
  auto spec = Spec("broken");
  spec.set_steps(1000);
  spec.mutable_lora()->set_lora_alpha(1e6);
  spec.mutable_optimizer()->set_learning_rate(1);
  spec.mutable_optimizer()->set_weight_decay(10);
  spec.mutable_optimizer()->set_warmup_steps(0);
  const TrainingJob job = Submit(spec);
  ASSERT_EQ(RunNextJob(), "failed");
  const TrainingJob failed = Job(job.name());
  EXPECT_EQ(failed.state(), trainer::v1::JOB_STATE_FAILED);
  EXPECT_THAT(failed.error_reason(),
              ::testing::AnyOf("NON_FINITE_LOSS", "NON_FINITE_GRADIENT"));
  EXPECT_FALSE(Adapter("broken").ok());
  Submit(Spec("good"));
  EXPECT_EQ(RunNextJob(), "succeeded");
}

TEST_F(WorkerE2eTest, BadExampleFailsTheJobAlone) {
  dataset_.train[0].set_token_ids(5, 1'000'000);
  const TrainingJob job = Submit(Spec("broken"));
  ASSERT_EQ(RunNextJob(), "failed");
  EXPECT_EQ(Job(job.name()).error_reason(), "INVALID_EXAMPLE");
  EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("1000000"));
}

TEST_F(WorkerE2eTest, ChangedDatasetFailsTheJob) {
  const TrainingJob job = Submit(Spec("broken"));
  dataset_.dataset.set_digest("d2");
  ASSERT_EQ(RunNextJob(), "failed");
  EXPECT_THAT(Job(job.name()).state_reason(), HasSubstr("digest"));
}

TEST_F(WorkerE2eTest, DamagedCopyOfTheModelIsFetchedAgain) {
  Submit(Spec("a"));
  ASSERT_EQ(RunNextJob(), "succeeded");
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("a"));
  const std::string file =
      JoinPath(dir_->path(), "cache/models/" + adapter.base_model_digest() +
                                 "/model.safetensors");
  ASSERT_OK_AND_ASSIGN(const std::string before, ReadFile(file));
  ASSERT_OK(WriteFileAtomic(file, "broken"));
  Submit(Spec("b"));
  ASSERT_EQ(RunNextJob(), "succeeded");
  ASSERT_OK_AND_ASSIGN(const std::string after, ReadFile(file));
  EXPECT_EQ(before, after);
}

TEST_F(WorkerE2eTest, WaitsForACuratorThatIsAway) {
  Submit(Spec("tuned"));
  std::atomic<int> asked = 0;
  auto remote = worker::MakeGrpcRemote(
      [this] { return trainer_address(); },
      [&] { return ++asked <= 2 ? std::string() : curator_address(); });
  hooked_ = std::make_unique<HookedRemote>(std::move(remote));
  ASSERT_OK_AND_ASSIGN(
      models_, worker::ModelCache::Create(JoinPath(dir_->path(), "cache-2"),
                                          hooked_.get()));
  EXPECT_EQ(RunNextJob(), "succeeded");
}

TEST_F(WorkerE2eTest, IdleWorkerStopsAtOnce) {
  auto worker = MakeWorker("w1");
  worker->Start();
  worker->Stop();
  worker->Stop();
}

}  // namespace
}  // namespace sinklora::testing
