// SPDX-License-Identifier: Apache-2.0
#include "services/cli/trainer_client.h"

#include <utility>

#include "services/cli/rpc_call.h"
#include "sinklora/trainer/v1/training_service.grpc.pb.h"

namespace sinklora::cli {
namespace {

namespace v1 = trainer::v1;
using Stub = v1::TrainingService::Stub;

// A watch lasts as long as its job: longer than any job, so that only the job
// or the connection ends it.
constexpr double kWatchTimeoutSeconds = 30.0 * 24 * 3600;

class GrpcTrainerClient final : public TrainerClient {
 public:
  GrpcTrainerClient(const std::string& address, Interrupt* interrupt)
      : interrupt_(interrupt),
        stub_(v1::TrainingService::NewStub(MakeChannel(address))) {}

  absl::StatusOr<v1::TrainingJob> CreateJob(
      const v1::CreateTrainingJobRequest& request) override {
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::CreateTrainingJobResponse>(
                            interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                            &Stub::CreateTrainingJob, request));
    return std::move(*response.mutable_job());
  }

  absl::StatusOr<v1::TrainingJob> GetJob(const std::string& name) override {
    v1::GetTrainingJobRequest request;
    request.set_name(name);
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::GetTrainingJobResponse>(
                            interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                            &Stub::GetTrainingJob, request));
    return std::move(*response.mutable_job());
  }

  absl::StatusOr<std::vector<v1::TrainingJob>> ListJobs() override {
    std::vector<v1::TrainingJob> jobs;
    v1::ListTrainingJobsRequest request;
    do {
      SL_ASSIGN_OR_RETURN(auto response,
                          CallUnary<v1::ListTrainingJobsResponse>(
                              interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                              &Stub::ListTrainingJobs, request));
      for (auto& job : *response.mutable_jobs()) jobs.push_back(std::move(job));
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return jobs;
  }

  absl::StatusOr<v1::TrainingJob> CancelJob(
      const v1::CancelTrainingJobRequest& request) override {
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::CancelTrainingJobResponse>(
                            interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                            &Stub::CancelTrainingJob, request));
    return std::move(*response.mutable_job());
  }

  absl::StatusOr<std::vector<v1::Checkpoint>> ListCheckpoints(
      const std::string& job) override {
    v1::ListCheckpointsRequest request;
    request.set_name(job);
    SL_ASSIGN_OR_RETURN(auto response,
                        CallUnary<v1::ListCheckpointsResponse>(
                            interrupt_, kUnaryTimeoutSeconds, stub_.get(),
                            &Stub::ListCheckpoints, request));
    return std::vector<v1::Checkpoint>(response.checkpoints().begin(),
                                       response.checkpoints().end());
  }

  absl::Status WatchJob(
      const v1::WatchTrainingJobRequest& request,
      const std::function<void(const v1::JobEvent&)>& on_event) override {
    Call call(interrupt_, kWatchTimeoutSeconds);
    const auto reader = stub_->WatchTrainingJob(call.context(), request);
    return ReadStream<v1::WatchTrainingJobResponse>(
        &call, reader.get(), [&](const v1::WatchTrainingJobResponse& response) {
          on_event(response.event());
          return absl::OkStatus();
        });
  }

 private:
  Interrupt* const interrupt_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<TrainerClient> TrainerClient::Create(const std::string& address,
                                                     Interrupt* interrupt) {
  return std::make_unique<GrpcTrainerClient>(address, interrupt);
}

}  // namespace sinklora::cli
