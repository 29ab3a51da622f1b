// The other services as a worker sees them, without gRPC in it.
//
// Thread-safe. Errors: kUnavailable or kDeadlineExceeded when a service cannot
// be reached (worth another try), else what the service says.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_WORKER_REMOTE_H_
#define SINKLORA_SERVICES_WORKER_REMOTE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/cancellation.h"
#include "sinklora/curator/v1/curator_service.pb.h"
#include "sinklora/registry/v1/registry_service.pb.h"
#include "sinklora/trainer/v1/worker_service.pb.h"

namespace sinklora::worker {

class Remote {
 public:
  virtual ~Remote() = default;

  virtual absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const trainer::v1::LeaseJobRequest& request) = 0;
  virtual absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request, double timeout_seconds) = 0;
  // Uploads every file below `dir`.
  virtual absl::Status CommitCheckpoint(
      const trainer::v1::CommitCheckpointHeader& header, const std::string& dir,
      const Cancellation* cancellation) = 0;
  // Files of the last checkpoint into `dir`, which exists; returns its step.
  // That of `broken_step` (0: none) is dropped first. kNotFound when there is
  // none, kDataLoss when all are broken.
  virtual absl::StatusOr<int64_t> DownloadCheckpoint(
      const trainer::v1::Lease& lease, int64_t broken_step,
      const std::string& dir, const Cancellation* cancellation) = 0;
  // `result_dir` is empty unless the outcome is SUCCEEDED.
  virtual absl::Status FinishJob(const trainer::v1::FinishJobHeader& header,
                                 const std::string& result_dir,
                                 const Cancellation* cancellation) = 0;

  virtual absl::StatusOr<registry::v1::Model> GetModel(
      const std::string& name) = 0;
  // Makes `dir` hold the files of the model as GetModel listed them, going on
  // with what an earlier call left there. As FetchFiles in
  // common/rpc/file_fetch.h; kFailedPrecondition when the name stands for other
  // content by now.
  virtual absl::Status DownloadModel(const registry::v1::Model& model,
                                     const std::string& dir,
                                     const Cancellation* cancellation) = 0;
  // Calls `on_example` for each example, in order.
  virtual absl::Status StreamExamples(
      const curator::v1::StreamExamplesRequest& request,
      const Cancellation* cancellation,
      const std::function<absl::Status(
          const curator::v1::StreamExamplesResponse&)>& on_example) = 0;
};

// Over gRPC. Addresses (host:port) are asked for at every call.
std::unique_ptr<Remote> MakeGrpcRemote(
    std::function<std::string()> trainer_address,
    std::function<std::string()> curator_address);

// True when the same call may well succeed a little later.
bool IsTransient(const absl::Status& status);
// True when the trainer says that this worker no longer holds its job.
bool IsLeaseLost(const absl::Status& status);

}  // namespace sinklora::worker

#endif  // SINKLORA_SERVICES_WORKER_REMOTE_H_
