// sinklora-worker: takes training jobs and runs them.
//
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/process.h"
#include "services/worker/worker.h"

ABSL_FLAG(std::string, trainer, "",
          "host:port of the trainer service and registry; required");
ABSL_FLAG(std::string, curator, "",
          "host:port of the curator service; required");
ABSL_FLAG(std::string, cache_dir, "",
          "directory for base models and temporary files, of this worker "
          "alone; required");
ABSL_FLAG(std::string, device, "auto",
          "auto, cpu, cuda:N or reference; several GPUs, which share the "
          "micro-steps of each job, as cuda:0,cuda:1 or cuda:all");
ABSL_FLAG(int, threads, 0, "threads of the CPU backend; 0 takes all cores");
ABSL_FLAG(
    std::string, cpu_isa, "auto",
    "instruction set of the CPU backend: auto, amx, avx512_bf16, avx512, avx2 "
    "or portable");
ABSL_FLAG(std::string, worker_id, "",
          "name of this worker in logs and job events, that of no other one; "
          "default a random one");
ABSL_FLAG(bool, join_groups, true,
          "take part in jobs of several workers; off where other workers' "
          "devices cannot be reached");

namespace sinklora::worker {
namespace {

class Process final : public HostedService {
 public:
  explicit Process(std::unique_ptr<Worker> worker)
      : worker_(std::move(worker)) {}
  std::vector<grpc::Service*> grpc_services() override { return {}; }
  absl::Status OnListening(const std::string&) override {
    worker_->Start();
    return absl::OkStatus();
  }
  // The destructor waits for the checkpoint.
  void OnStop() override { worker_->RequestStop(); }

 private:
  const std::unique_ptr<Worker> worker_;
};

absl::StatusOr<std::unique_ptr<HostedService>> Start(const ProcessEnv& env) {
  WorkerOptions options;
  const std::string trainer = absl::GetFlag(FLAGS_trainer);
  const std::string curator = absl::GetFlag(FLAGS_curator);
  options.cache_dir = absl::GetFlag(FLAGS_cache_dir);
  if (trainer.empty() || curator.empty() || options.cache_dir.empty()) {
    return absl::InvalidArgumentError(
        "--trainer, --curator and --cache-dir are required");
  }
  options.trainer_address = [trainer] { return trainer; };
  options.curator_address = [curator] { return curator; };
  options.device = absl::GetFlag(FLAGS_device);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.cpu_isa = absl::GetFlag(FLAGS_cpu_isa);
  options.worker_id = absl::GetFlag(FLAGS_worker_id);
  if (options.worker_id.empty()) options.worker_id = NewId("worker");
  options.join_groups = absl::GetFlag(FLAGS_join_groups);
  options.metrics = env.metrics;
  SL_ASSIGN_OR_RETURN(auto worker, Worker::Create(options));
  return std::make_unique<Process>(std::move(worker));
}

}  // namespace
}  // namespace sinklora::worker

int main(int argc, char** argv) {
  sinklora::ProcessOptions options;
  options.usage =
      "sinklora-worker: takes training jobs from a trainer and runs them\n"
      "example: sinklora-worker --trainer=127.0.0.1:7071 "
      "--curator=127.0.0.1:7070 --cache-dir=cache";
  return sinklora::RunProcess(argc, argv, options, sinklora::worker::Start);
}
