// A real trainer, real workers and a stand-in for the curator, with the writes
// of one worker in the test's hand.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_WORKER_WORKER_FIXTURE_H_
#define SINKLORA_TESTS_SERVICES_WORKER_WORKER_FIXTURE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "services/worker/job_runner.h"
#include "services/worker/worker.h"
#include "tests/services/trainer/cluster.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {

// Passes everything on, and lets a test act around the writes that end a part
// of a run: the moments that are the same every time.
class HookedRemote final : public worker::Remote {
 public:
  explicit HookedRemote(std::unique_ptr<Remote> remote)
      : remote_(std::move(remote)) {}

  // Right before a checkpoint or the end of the job is sent, and right after a
  // checkpoint was committed. `dir` holds what is sent.
  std::function<void(const trainer::v1::CommitCheckpointHeader& header,
                     const std::string& dir)>
      before_commit;
  std::function<void(const trainer::v1::FinishJobHeader& header,
                     const std::string& dir)>
      before_finish;
  std::function<void(int64_t step)> after_commit;
  // Heartbeats do not arrive any more.
  std::atomic<bool> cut = false;

  Remote* real() { return remote_.get(); }

  absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const trainer::v1::LeaseJobRequest& request) override {
    return remote_->LeaseJob(request);
  }
  absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request,
      double timeout_seconds) override {
    if (cut) return absl::UnavailableError("cut off");
    return remote_->Heartbeat(request, timeout_seconds);
  }
  absl::Status CommitCheckpoint(
      const trainer::v1::CommitCheckpointHeader& header, const std::string& dir,
      const Cancellation* cancellation) override {
    if (before_commit) before_commit(header, dir);
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
    if (before_finish) before_finish(header, result_dir);
    return remote_->FinishJob(header, result_dir, cancellation);
  }
  absl::StatusOr<registry::v1::Model> GetModel(
      const std::string& name) override {
    return remote_->GetModel(name);
  }
  absl::Status DownloadModel(const registry::v1::Model& model,
                             const std::string& dir,
                             const Cancellation* cancellation) override {
    return remote_->DownloadModel(model, dir, cancellation);
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
  static constexpr char kDevice[] = "cpu";

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
    devices_ = {backend_.get()};
    counters_ =
        std::make_unique<worker::WorkerMetrics>(worker_metrics_.get(), 0);
  }

  // What a worker of that name with `devices_` gets, which joins no group.
  absl::StatusOr<trainer::v1::LeaseJobResponse> Ask(const std::string& id) {
    trainer::v1::LeaseJobRequest request;
    request.set_worker_id(id);
    request.set_devices(static_cast<int32_t>(devices_.size()));
    return hooked_->LeaseJob(request);
  }

  // Leases the next job and runs it in this thread. How that ended.
  std::string RunNextJob() {
    const auto leased = Ask("w1");
    EXPECT_OK(leased);
    if (!leased.ok() || !leased->has_lease()) return "no job";
    worker::LeaseKeeper keeper(hooked_.get(), &worker_clock_, leased->lease(),
                               worker_clock_.MonotonicMicros());
    keeper_ = &keeper;
    worker::JobRunnerOptions options;
    options.remote = hooked_.get();
    options.models = models_.get();
    options.backends = devices_;
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
  std::vector<kernels::Backend*> devices_;  // that RunNextJob() trains on
  std::unique_ptr<worker::WorkerMetrics> counters_;
  worker::LeaseKeeper* keeper_ = nullptr;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_WORKER_WORKER_FIXTURE_H_
