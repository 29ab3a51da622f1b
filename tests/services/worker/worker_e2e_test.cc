// Jobs from submission to result, with a real trainer, real workers and a
// stand-in for the curator.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "common/weights/model_files.h"
#include "services/worker/job_runner.h"
#include "services/worker/worker.h"
#include "tests/services/trainer/cluster.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using trainer::v1::TrainingJob;
using worker::Remote;

constexpr char kDevice[] = "cpu";

// Passes everything on, and lets a test act right after a checkpoint was
// committed: the one moment of a run that is the same every time.
class HookedRemote final : public Remote {
 public:
  using Hook = std::function<void(int64_t step)>;
  explicit HookedRemote(std::unique_ptr<Remote> remote)
      : remote_(std::move(remote)) {}

  std::function<void(int64_t step, const std::string& dir)> before_commit;
  Hook after_commit;
  absl::Status commit_failure;  // of every checkpoint, unless OK

  absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const std::string& worker_id) override {
    return remote_->LeaseJob(worker_id);
  }
  absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request,
      double timeout_seconds) override {
    return remote_->Heartbeat(request, timeout_seconds);
  }
  absl::Status CommitCheckpoint(
      const trainer::v1::CommitCheckpointHeader& header, const std::string& dir,
      const Cancellation* cancellation) override {
    if (!commit_failure.ok()) return commit_failure;
    if (before_commit) before_commit(header.step(), dir);
    const absl::Status status =
        remote_->CommitCheckpoint(header, dir, cancellation);
    if (status.ok() && after_commit) after_commit(header.step());
    return status;
  }
  absl::StatusOr<int64_t> DownloadCheckpoint(
      const trainer::v1::Lease& lease, int64_t broken_step,
      const std::string& dir, const Cancellation* cancellation) override {
    return remote_->DownloadCheckpoint(lease, broken_step, dir, cancellation);
  }
  absl::Status FinishJob(const trainer::v1::FinishJobHeader& header,
                         const std::string& result_dir,
                         const Cancellation* cancellation) override {
    return remote_->FinishJob(header, result_dir, cancellation);
  }
  absl::StatusOr<registry::v1::Model> GetModel(
      const std::string& name) override {
    return remote_->GetModel(name);
  }
  absl::Status DownloadModel(const std::string& name, const std::string& dir,
                             const Cancellation* cancellation) override {
    return remote_->DownloadModel(name, dir, cancellation);
  }
  absl::Status StreamExamples(
      const curator::v1::StreamExamplesRequest& request,
      const Cancellation* cancellation,
      const std::function<absl::Status(
          const curator::v1::StreamExamplesResponse&)>& on_example) override {
    return remote_->StreamExamples(request, cancellation, on_example);
  }

 private:
  const std::unique_ptr<Remote> remote_;
};

class WorkerE2eTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    AddInputs();
    worker_metrics_ = MetricsRegistry::Create();
    hooked_ = std::make_unique<HookedRemote>(
        worker::MakeGrpcRemote([this] { return trainer_address(); },
                               [this] { return curator_address(); }));
    ASSERT_OK_AND_ASSIGN(
        models_, worker::ModelCache::Create(JoinPath(dir_->path(), "cache"),
                                            hooked_.get()));
    kernels::BackendOptions options;
    options.num_threads = 1;
    ASSERT_OK(ToAbsl(kernels::OpenBackend(kDevice, options, &backend_)));
    counters_ =
        std::make_unique<worker::WorkerMetrics>(worker_metrics_.get(), 0);
  }

  // Leases the next job and runs it in this thread. How that ended.
  std::string RunNextJob() {
    const auto leased = hooked_->LeaseJob("w1");
    EXPECT_OK(leased);
    if (!leased.ok() || !leased->has_lease()) return "no job";
    worker::LeaseKeeper keeper(hooked_.get(), &worker_clock_, leased->lease(),
                               worker_clock_.MonotonicMicros());
    keeper_ = &keeper;
    worker::JobRunnerOptions options;
    options.remote = hooked_.get();
    options.models = models_.get();
    options.backend = backend_.get();
    options.metrics = counters_.get();
    options.clock = &worker_clock_;
    const std::string outcome = worker::RunJob(options, leased->job(), &keeper);
    keeper_ = nullptr;
    return outcome;
  }

  std::unique_ptr<worker::Worker> MakeWorker(const std::string& id) {
    worker::WorkerOptions options;
    options.worker_id = id;
    options.trainer_address = [this] { return trainer_address(); };
    options.curator_address = [this] { return curator_address(); };
    options.cache_dir = JoinPath(dir_->path(), "cache-" + id);
    options.device = kDevice;
    options.threads = 1;
    options.metrics = worker_metrics_.get();
    options.clock = &worker_clock_;
    auto made = worker::Worker::Create(options);
    EXPECT_OK(made);
    return *std::move(made);
  }

  // Digest of the adapter of an undisturbed run of `spec`.
  std::string UndisturbedDigest(trainer::v1::TrainingSpec spec) {
    spec.set_output_name("undisturbed");
    Submit(spec);
    EXPECT_EQ(RunNextJob(), "succeeded");
    const auto adapter = Adapter("undisturbed");
    EXPECT_OK(adapter);
    return adapter.ok() ? adapter->digest() : "";
  }

  void ExpireLease() { trainer_clock_.AdvanceSeconds(kTtlSeconds); }

  // Stands still: a slow machine must not make a worker lose its lease.
  FakeClock worker_clock_;
  std::unique_ptr<MetricsRegistry> worker_metrics_;
  std::unique_ptr<HookedRemote> hooked_;
  std::unique_ptr<worker::ModelCache> models_;
  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<worker::WorkerMetrics> counters_;
  worker::LeaseKeeper* keeper_ = nullptr;
};

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
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("tuned"));
  EXPECT_EQ(adapter.context_tokens(), 128);
  EXPECT_EQ(adapter.rope_factor(), 2);
  EXPECT_EQ(adapter.lora_rank(), 8);
  EXPECT_EQ(adapter.source_job(), job.name());
  EXPECT_EQ(
      Metric(*worker_metrics_, "sinklora_worker_tokens_total{worker=\"0\"}"),
      6 * 2 * kContextTokens);
  EXPECT_EQ(
      Metric(*worker_metrics_,
             "sinklora_worker_checkpoint_duration_seconds_count{worker=\"0\"}"),
      3);

  // The merged model is a whole Hugging Face directory.
  ASSERT_OK_AND_ASSIGN(const auto merged, TempDir::Create());
  FileReceiver receiver(merged->path(), INT64_MAX);
  const auto context = MakeContext(kTransferTimeoutSeconds);
  registry::v1::ExportMergedModelRequest request;
  request.set_adapter("tuned");
  const auto reader = registry_->ExportMergedModel(context.get(), request);
  registry::v1::ExportMergedModelResponse response;
  while (reader->Read(&response)) ASSERT_OK(receiver.Accept(response.chunk()));
  ASSERT_OK(FromGrpc(reader->Finish()));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(merged->path()));
  EXPECT_EQ(files->config().context_tokens(), 128);
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
  EXPECT_EQ(response.model().source_job(), job.name());
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
  hooked_->before_commit = [](int64_t step, const std::string& dir) {
    if (step != 4) return;
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
  hooked_->before_commit = [](int64_t, const std::string& dir) {
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
  hooked_->before_commit = [](int64_t, const std::string& dir) {
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
  ASSERT_OK(hooked_->LeaseJob("dies-at-once"));
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

TEST_F(WorkerE2eTest, FullDiskOnCheckpointFailsTheJobAlone) {
  hooked_->commit_failure =
      MakeError(absl::StatusCode::kResourceExhausted,
                "the trainer's disk has 0 bytes free", {"STORAGE_LOW", {}});
  const TrainingJob job = Submit(Spec("broken"));
  ASSERT_EQ(RunNextJob(), "failed");
  EXPECT_EQ(Job(job.name()).error_reason(), "STORAGE_LOW");
  hooked_->commit_failure = absl::OkStatus();
  Submit(Spec("good"));
  EXPECT_EQ(RunNextJob(), "succeeded");
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
