// SPDX-License-Identifier: Apache-2.0
#include "tests/services/cli/fake_services.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <cmath>

namespace sinklora::testing {

grpc::Status FakeTraining::WatchTrainingJob(
    grpc::ServerContext*, const trainer::v1::WatchTrainingJobRequest* request,
    grpc::ServerWriter<trainer::v1::WatchTrainingJobResponse>* writer) {
  watched_from.push_back(request->from_sequence());
  size_t sent = 0;
  for (const trainer::v1::JobEvent& event : events) {
    if (event.sequence() < request->from_sequence()) continue;
    if (watched_from.size() == 1 && break_after_events > 0 &&
        sent == break_after_events) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting");
    }
    trainer::v1::WatchTrainingJobResponse response;
    *response.mutable_event() = event;
    writer->Write(response);
    ++sent;
  }
  return grpc::Status::OK;
}

grpc::Status FakeCurator::ImportSource(
    grpc::ServerContext*,
    grpc::ServerReader<curator::v1::ImportSourceRequest>* reader,
    curator::v1::ImportSourceResponse* response) {
  curator::v1::ImportSourceRequest request;
  while (reader->Read(&request)) {
    if (request.has_header()) header = request.header();
    if (!request.has_chunk()) continue;
    // An import that is refused stops reading in the middle.
    if (!status.ok()) return status;
    files[request.chunk().path()] += request.chunk().data();
  }
  response->mutable_source()->set_name(header.name());
  response->mutable_source()->set_record_count(
      static_cast<int64_t>(files.size()));
  return status;
}

grpc::Status FakeCurator::Curate(
    grpc::ServerContext*, const curator::v1::CurateRequest* request,
    grpc::ServerWriter<curator::v1::CurateResponse>* writer) {
  curated = *request;
  if (!status.ok()) return status;
  curator::v1::CurateResponse response;
  response.mutable_progress()->set_stage("tokenize");
  response.mutable_progress()->set_total_records(10);
  writer->Write(response);
  response.mutable_dataset()->set_name(request->name());
  *response.mutable_dataset()->mutable_recipe() = request->recipe();
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeCurator::ExportDataset(
    grpc::ServerContext*, const curator::v1::ExportDatasetRequest*,
    grpc::ServerWriter<curator::v1::ExportDatasetResponse>* writer) {
  for (const common::v1::FileChunk& chunk : exported) {
    curator::v1::ExportDatasetResponse response;
    *response.mutable_chunk() = chunk;
    writer->Write(response);
  }
  return status;
}

grpc::Status FakeRegistry::ListModels(
    grpc::ServerContext*, const registry::v1::ListModelsRequest* request,
    registry::v1::ListModelsResponse* response) {
  const size_t page =
      request->page_token().empty() ? 0 : std::stoul(request->page_token());
  if (page < model_names.size()) {
    response->add_models()->set_name(model_names[page]);
  }
  if (page + 1 < model_names.size()) {
    response->set_next_page_token(std::to_string(page + 1));
  }
  return grpc::Status::OK;
}

grpc::Status FakeInference::Generate(
    grpc::ServerContext*, const inference::v1::GenerateRequest* request,
    grpc::ServerWriter<inference::v1::GenerateResponse>* writer) {
  generated.push_back(*request);
  if (!status.ok()) return status;
  inference::v1::GenerateResponse response;
  response.mutable_started()->set_prompt_tokens(
      static_cast<int64_t>(request->text().size()) + 1);
  writer->Write(response);
  for (const char c : answer ? answer(*request) : std::string("ok")) {
    response.mutable_delta()->set_text(std::string(1, c));
    response.mutable_delta()->add_token_ids(static_cast<unsigned char>(c));
    writer->Write(response);
    response.Clear();
  }
  response.mutable_finished()->set_finish_reason(
      inference::v1::FINISH_REASON_STOP);
  response.mutable_finished()->mutable_usage()->set_generated_tokens(2);
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeInference::Score(grpc::ServerContext*,
                                  const inference::v1::ScoreRequest* request,
                                  inference::v1::ScoreResponse* response) {
  scored.push_back(*request);
  const int64_t tokens = request->has_token_ids()
                             ? request->token_ids().ids_size()
                             : static_cast<int64_t>(request->text().size()) + 1;
  response->set_scored_tokens(tokens - request->score_from());
  response->set_nll_sum(static_cast<double>(response->scored_tokens()) *
                        std::log(256.0));
  return status;
}

grpc::Status FakeInference::Tokenize(
    grpc::ServerContext*, const inference::v1::TokenizeRequest* request,
    inference::v1::TokenizeResponse* response) {
  response->set_context_tokens(context_tokens);
  if (request->has_token_ids()) {
    for (const int32_t id : request->token_ids().ids()) {
      if (id < 256) response->mutable_text()->push_back(static_cast<char>(id));
    }
    return status;
  }
  if (request->add_bos()) response->add_token_ids(256);
  for (const char c : request->text()) {
    response->add_token_ids(static_cast<unsigned char>(c));
  }
  return status;
}

FakeServer::FakeServer() {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           &training, &curator, &registry, &inference}) {
    builder.RegisterService(service);
  }
  server = builder.BuildAndStart();
  address = "127.0.0.1:" + std::to_string(port);
}

FakeServer::~FakeServer() {
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace sinklora::testing
