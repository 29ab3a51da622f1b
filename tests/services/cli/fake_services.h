// The services as scripted fakes behind a real gRPC server: they keep what they
// were asked and answer what the test says.
//
// Calls come one at a time from the command under test; fields are set before
// and read after it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_CLI_FAKE_SERVICES_H_
#define SINKLORA_TESTS_SERVICES_CLI_FAKE_SERVICES_H_

#include <grpcpp/server.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sinklora/curator/v1/curator_service.grpc.pb.h"
#include "sinklora/inference/v1/inference_service.grpc.pb.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"
#include "sinklora/trainer/v1/training_service.grpc.pb.h"

namespace sinklora::testing {

class FakeTraining final : public trainer::v1::TrainingService::Service {
 public:
  grpc::Status CreateTrainingJob(
      grpc::ServerContext*,
      const trainer::v1::CreateTrainingJobRequest* request,
      trainer::v1::CreateTrainingJobResponse* response) override {
    created.push_back(*request);
    *response->mutable_job() = job;
    return status;
  }
  grpc::Status GetTrainingJob(
      grpc::ServerContext*, const trainer::v1::GetTrainingJobRequest*,
      trainer::v1::GetTrainingJobResponse* response) override {
    *response->mutable_job() = job;
    return status;
  }
  grpc::Status WatchTrainingJob(
      grpc::ServerContext*, const trainer::v1::WatchTrainingJobRequest* request,
      grpc::ServerWriter<trainer::v1::WatchTrainingJobResponse>* writer)
      override;

  grpc::Status status;
  trainer::v1::TrainingJob job;
  std::vector<trainer::v1::JobEvent> events;
  // The first watch breaks off with UNAVAILABLE after this many events; 0: it
  // does not.
  size_t break_after_events = 0;
  std::vector<trainer::v1::CreateTrainingJobRequest> created;
  std::vector<int64_t> watched_from;
};

class FakeCurator final : public curator::v1::CuratorService::Service {
 public:
  grpc::Status ImportSource(
      grpc::ServerContext*,
      grpc::ServerReader<curator::v1::ImportSourceRequest>* reader,
      curator::v1::ImportSourceResponse* response) override;
  grpc::Status Curate(
      grpc::ServerContext*, const curator::v1::CurateRequest* request,
      grpc::ServerWriter<curator::v1::CurateResponse>* writer) override;
  grpc::Status GetDataset(grpc::ServerContext*,
                          const curator::v1::GetDatasetRequest*,
                          curator::v1::GetDatasetResponse*) override {
    return status;
  }
  grpc::Status ExportDataset(
      grpc::ServerContext*, const curator::v1::ExportDatasetRequest*,
      grpc::ServerWriter<curator::v1::ExportDatasetResponse>* writer) override;

  grpc::Status status;
  curator::v1::ImportSourceHeader header;
  std::map<std::string, std::string> files;  // received, by path
  curator::v1::CurateRequest curated;
  std::vector<common::v1::FileChunk> exported;
};

class FakeRegistry final : public registry::v1::RegistryService::Service {
 public:
  grpc::Status ListModels(grpc::ServerContext*,
                          const registry::v1::ListModelsRequest* request,
                          registry::v1::ListModelsResponse* response) override;
  grpc::Status ListAdapters(grpc::ServerContext*,
                            const registry::v1::ListAdaptersRequest*,
                            registry::v1::ListAdaptersResponse*) override {
    return grpc::Status::OK;
  }

  std::vector<std::string> model_names;  // one a page
};

// Its tokens are the bytes of the text, with a begin token 256; a token's
// likelihood is that of a fair byte.
class FakeInference final : public inference::v1::InferenceService::Service {
 public:
  grpc::Status Generate(
      grpc::ServerContext*, const inference::v1::GenerateRequest* request,
      grpc::ServerWriter<inference::v1::GenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext*,
                     const inference::v1::ScoreRequest* request,
                     inference::v1::ScoreResponse* response) override;
  grpc::Status Tokenize(grpc::ServerContext*,
                        const inference::v1::TokenizeRequest* request,
                        inference::v1::TokenizeResponse* response) override;

  grpc::Status status;
  int64_t context_tokens = 64;
  std::function<std::string(const inference::v1::GenerateRequest&)> answer;
  std::vector<inference::v1::GenerateRequest> generated;
  std::vector<inference::v1::ScoreRequest> scored;
};

// All of them behind one port.
struct FakeServer {
  FakeServer();
  ~FakeServer();

  FakeTraining training;
  FakeCurator curator;
  FakeRegistry registry;
  FakeInference inference;
  std::string address;
  std::unique_ptr<grpc::Server> server;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_SERVICES_CLI_FAKE_SERVICES_H_
