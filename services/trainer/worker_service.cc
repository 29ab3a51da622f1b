// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/worker_service.h"

#include "common/base/status.h"
#include "common/rpc/handlers.h"
#include "services/trainer/upload.h"
#include "sinklora/trainer/v1/worker_service.grpc.pb.h"

namespace sinklora::trainer {
namespace {

using namespace trainer::v1;  // NOLINT: message names fill this file

class Service final : public WorkerService::CallbackService {
 public:
  Service(JobManager* jobs, const ArtifactStore* artifacts, Executor* executor,
          MetricsRegistry* metrics)
      : jobs_(jobs),
        artifacts_(artifacts),
        rpc_{"WorkerService", executor, metrics} {}

  grpc::ServerUnaryReactor* LeaseJob(grpc::CallbackServerContext* context,
                                     const LeaseJobRequest* request,
                                     LeaseJobResponse* response) override {
    return RunUnary<LeaseJobRequest, LeaseJobResponse>(
        rpc_, "LeaseJob", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp, jobs_->LeaseJob(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* context,
                                      const HeartbeatRequest* request,
                                      HeartbeatResponse* response) override {
    return RunUnary<HeartbeatRequest, HeartbeatResponse>(
        rpc_, "Heartbeat", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp, jobs_->Heartbeat(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerReadReactor<CommitCheckpointRequest>* CommitCheckpoint(
      grpc::CallbackServerContext* context,
      CommitCheckpointResponse* response) override {
    return RunClientStream<CommitCheckpointRequest, CommitCheckpointResponse>(
        rpc_, "CommitCheckpoint", context, response,
        [this](const CallInfo& call, auto* reader, auto* resp) -> absl::Status {
          CommitCheckpointRequest first;
          SL_RETURN_IF_ERROR(ReadHeader(reader, &first));
          SL_RETURN_IF_ERROR(jobs_->CheckLease(first.header().lease()));
          SL_ASSIGN_OR_RETURN(
              const StagedFiles upload,
              ReceiveFiles(call, first.header().size(), reader, *artifacts_));
          SL_ASSIGN_OR_RETURN(*resp->mutable_checkpoint(),
                              jobs_->CommitCheckpoint(
                                  first.header(), upload.path, upload.files));
          return absl::OkStatus();
        });
  }

  grpc::ServerWriteReactor<DownloadCheckpointResponse>* DownloadCheckpoint(
      grpc::CallbackServerContext* context,
      const DownloadCheckpointRequest* request) override {
    return RunServerStream<DownloadCheckpointRequest,
                           DownloadCheckpointResponse>(
        rpc_, "DownloadCheckpoint", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) -> absl::Status {
          SL_ASSIGN_OR_RETURN(
              const auto stored,
              jobs_->OpenCheckpoint(req.lease(), req.broken_step()));
          std::vector<FileToSend> files;
          for (const auto& file : stored.checkpoint.files()) {
            files.push_back({file.path(), 0, file.sha256()});
          }
          return StreamFiles(stored.dir, files, writer, [&](auto* response) {
            response->set_step(stored.checkpoint.step());
          });
        });
  }

  grpc::ServerReadReactor<FinishJobRequest>* FinishJob(
      grpc::CallbackServerContext* context,
      FinishJobResponse* response) override {
    return RunClientStream<FinishJobRequest, FinishJobResponse>(
        rpc_, "FinishJob", context, response,
        [this](const CallInfo& call, auto* reader, auto* resp) -> absl::Status {
          FinishJobRequest first;
          SL_RETURN_IF_ERROR(ReadHeader(reader, &first));
          // Saying that it failed needs no room on the disk.
          StagedFiles upload;
          std::string dir;
          if (first.header().outcome() == JOB_STATE_SUCCEEDED) {
            SL_ASSIGN_OR_RETURN(
                upload,
                ReceiveFiles(call, first.header().size(), reader, *artifacts_));
            dir = upload.path;
          }
          SL_ASSIGN_OR_RETURN(
              *resp->mutable_job(),
              jobs_->FinishJob(first.header(), dir, upload.files));
          return absl::OkStatus();
        });
  }

 private:
  JobManager* const jobs_;
  const ArtifactStore* const artifacts_;
  const RpcContext rpc_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(JobManager* jobs,
                                                 const ArtifactStore* artifacts,
                                                 Executor* executor,
                                                 MetricsRegistry* metrics) {
  return std::make_unique<Service>(jobs, artifacts, executor, metrics);
}

}  // namespace sinklora::trainer
