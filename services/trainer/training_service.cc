// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/training_service.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>

#include "common/base/status.h"
#include "common/rpc/handlers.h"
#include "sinklora/trainer/v1/training_service.grpc.pb.h"

namespace sinklora::trainer {
namespace {

using namespace trainer::v1;  // NOLINT: message names fill this file

// Each watcher holds an executor thread; the others must stay free for calls.
constexpr int kMaxWatchers = 32;
// How often a watcher of a silent job looks whether its client is still there.
constexpr std::chrono::milliseconds kWatchPoll(200);

class Service final : public TrainingService::CallbackService {
 public:
  Service(JobManager* jobs, Executor* executor, MetricsRegistry* metrics)
      : jobs_(jobs), rpc_{"TrainingService", executor, metrics} {}

  grpc::ServerUnaryReactor* CreateTrainingJob(
      grpc::CallbackServerContext* context,
      const CreateTrainingJobRequest* request,
      CreateTrainingJobResponse* response) override {
    return RunUnary<CreateTrainingJobRequest, CreateTrainingJobResponse>(
        rpc_, "CreateTrainingJob", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_job(), jobs_->CreateJob(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* GetTrainingJob(
      grpc::CallbackServerContext* context,
      const GetTrainingJobRequest* request,
      GetTrainingJobResponse* response) override {
    return RunUnary<GetTrainingJobRequest, GetTrainingJobResponse>(
        rpc_, "GetTrainingJob", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_job(), jobs_->GetJob(req.name()));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ListTrainingJobs(
      grpc::CallbackServerContext* context,
      const ListTrainingJobsRequest* request,
      ListTrainingJobsResponse* response) override {
    return RunUnary<ListTrainingJobsRequest, ListTrainingJobsResponse>(
        rpc_, "ListTrainingJobs", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp, jobs_->ListJobs(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* CancelTrainingJob(
      grpc::CallbackServerContext* context,
      const CancelTrainingJobRequest* request,
      CancelTrainingJobResponse* response) override {
    return RunUnary<CancelTrainingJobRequest, CancelTrainingJobResponse>(
        rpc_, "CancelTrainingJob", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(*resp->mutable_job(), jobs_->CancelJob(req));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* DeleteTrainingJob(
      grpc::CallbackServerContext* context,
      const DeleteTrainingJobRequest* request,
      DeleteTrainingJobResponse* response) override {
    return RunUnary<DeleteTrainingJobRequest, DeleteTrainingJobResponse>(
        rpc_, "DeleteTrainingJob", context, request, response,
        [this](const CallInfo&, const auto& req, auto*) {
          return jobs_->DeleteJob(req);
        });
  }

  grpc::ServerWriteReactor<WatchTrainingJobResponse>* WatchTrainingJob(
      grpc::CallbackServerContext* context,
      const WatchTrainingJobRequest* request) override {
    return RunServerStream<WatchTrainingJobRequest, WatchTrainingJobResponse>(
        rpc_, "WatchTrainingJob", context, request,
        [this](const CallInfo& call, const auto& req, auto* writer) {
          return Watch(call, req, writer);
        });
  }

  grpc::ServerUnaryReactor* ListCheckpoints(
      grpc::CallbackServerContext* context,
      const ListCheckpointsRequest* request,
      ListCheckpointsResponse* response) override {
    return RunUnary<ListCheckpointsRequest, ListCheckpointsResponse>(
        rpc_, "ListCheckpoints", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          SL_ASSIGN_OR_RETURN(const auto checkpoints,
                              jobs_->ListCheckpoints(req.name()));
          resp->mutable_checkpoints()->Assign(checkpoints.begin(),
                                              checkpoints.end());
          return absl::OkStatus();
        });
  }

 private:
  // Counts the watchers that run; over the limit it is not `admitted`.
  class WatcherSlot {
   public:
    explicit WatcherSlot(std::atomic<int>* count)
        : count_(count), admitted_(count->fetch_add(1) < kMaxWatchers) {}
    ~WatcherSlot() { count_->fetch_sub(1); }
    bool admitted() const { return admitted_; }

   private:
    std::atomic<int>* const count_;
    const bool admitted_;
  };

  absl::Status Watch(const CallInfo& call,
                     const WatchTrainingJobRequest& request,
                     StreamWriter<WatchTrainingJobResponse>* writer) {
    if (request.from_sequence() < 0) {
      return absl::InvalidArgumentError(fmt::format(
          "from_sequence is {}, allowed is >= 0", request.from_sequence()));
    }
    const WatcherSlot slot(&watchers_);
    if (!slot.admitted()) {
      return MakeError(
          absl::StatusCode::kResourceExhausted,
          fmt::format("{} watchers are running, which is the limit",
                      kMaxWatchers),
          {"TOO_MANY_WATCHERS", {{"limit", std::to_string(kMaxWatchers)}}});
    }
    int64_t next_sequence = std::max<int64_t>(request.from_sequence(), 1);
    while (!call.cancellation->cancelled()) {
      SL_ASSIGN_OR_RETURN(
          auto page,
          jobs_->WaitForEvents(request.name(), next_sequence, kWatchPoll));
      for (JobEvent& event : page.events) {
        next_sequence = event.sequence() + 1;
        WatchTrainingJobResponse response;
        *response.mutable_event() = std::move(event);
        if (!writer->Write(response)) {
          return absl::CancelledError("the watcher went away");
        }
      }
      if (page.ended) return absl::OkStatus();
    }
    return absl::CancelledError("the watcher went away");
  }

  JobManager* const jobs_;
  const RpcContext rpc_;
  std::atomic<int> watchers_{0};
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTrainingService(JobManager* jobs,
                                                   Executor* executor,
                                                   MetricsRegistry* metrics) {
  return std::make_unique<Service>(jobs, executor, metrics);
}

}  // namespace sinklora::trainer
