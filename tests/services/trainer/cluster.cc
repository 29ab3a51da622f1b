// SPDX-License-Identifier: Apache-2.0
#include "tests/services/trainer/cluster.h"

#include "common/base/ids.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/handlers.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/upload_receiver.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

using namespace curator::v1;  // NOLINT: message names fill this file

constexpr int kTrainExamples = 7;
constexpr int kValidationExamples = 3;

class FakeCurator final : public CuratorService::CallbackService {
 public:
  FakeCurator(const FakeDataset* data, Executor* executor,
              MetricsRegistry* metrics)
      : data_(data), rpc_{"CuratorService", executor, metrics} {}

  grpc::ServerUnaryReactor* GetDataset(grpc::CallbackServerContext* context,
                                       const GetDatasetRequest* request,
                                       GetDatasetResponse* response) override {
    return RunUnary<GetDatasetRequest, GetDatasetResponse>(
        rpc_, "GetDataset", context, request, response,
        [this](const CallInfo&, const auto& req, auto* resp) -> absl::Status {
          if (req.name() != data_->dataset.name()) {
            return absl::NotFoundError("no dataset " + req.name());
          }
          *resp->mutable_dataset() = data_->dataset;
          return absl::OkStatus();
        });
  }

  grpc::ServerWriteReactor<StreamExamplesResponse>* StreamExamples(
      grpc::CallbackServerContext* context,
      const StreamExamplesRequest* request) override {
    return RunServerStream<StreamExamplesRequest, StreamExamplesResponse>(
        rpc_, "StreamExamples", context, request,
        [this](const CallInfo&, const auto& req, auto* writer) {
          return Stream(req, writer);
        });
  }

 private:
  absl::Status Stream(const StreamExamplesRequest& request,
                      StreamWriter<StreamExamplesResponse>* writer) {
    if (request.digest() != data_->dataset.digest()) {
      return absl::FailedPreconditionError("the dataset has another digest");
    }
    const auto& examples =
        request.split() == SPLIT_VALIDATION ? data_->validation : data_->train;
    int64_t end = static_cast<int64_t>(examples.size());
    if (request.max_examples() > 0) {
      end = std::min(end, request.first_example() + request.max_examples());
    }
    for (int64_t i = request.first_example(); i < end; ++i) {
      StreamExamplesResponse response;
      response.set_index(i);
      *response.mutable_example() = examples[static_cast<size_t>(i)];
      if (!writer->Write(response)) return absl::CancelledError("gone");
    }
    return absl::OkStatus();
  }

  const FakeDataset* const data_;
  const RpcContext rpc_;
};

// Two documents of random tokens, every token but the first of each supervised.
Example MakeExample(uint64_t stream, int tokens) {
  const CounterRng rng(/*seed=*/11, stream);
  const int first_document = tokens / 3;
  Example example;
  for (int i = 0; i < tokens; ++i) {
    // Few distinct tokens: something a tiny model can learn in some steps.
    example.add_token_ids(
        static_cast<int32_t>(2 + rng.Below(static_cast<uint64_t>(i), 40)));
    const bool first = i == 0 || i == first_document;
    example.mutable_supervised()->push_back(first ? '\0' : '\1');
  }
  example.add_document_tokens(first_document);
  example.add_document_tokens(tokens - first_document);
  return example;
}

}  // namespace

void ClusterTest::SetUp() {
  ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
  metrics_ = MetricsRegistry::Create();
  executor_ = Executor::Create({});
  curator_ =
      std::make_unique<FakeCurator>(&dataset_, executor_.get(), metrics_.get());
  ASSERT_OK_AND_ASSIGN(curator_server_,
                       RpcServer::Create({}, {curator_.get()}));
  curator_server_->SetServing(true);
  trainer::TrainerOptions options;
  options.data_dir = JoinPath(dir_->path(), "trainer");
  options.import_root = JoinPath(dir_->path(), "imports");
  ASSERT_OK(MakeDirs(options.import_root));
  options.curator_address = [this] { return curator_address(); };
  options.metrics = metrics_.get();
  options.executor = executor_.get();
  options.clock = &trainer_clock_;
  options.lease_ttl_seconds = kTtlSeconds;
  ASSERT_OK_AND_ASSIGN(
      disk_,
      DiskBudget::Create(
          dir_->path(), kDiskReserveBytes,
          [this](const std::string& directory) -> absl::StatusOr<int64_t> {
            if (disk_full_) return kDiskReserveBytes;
            return FreeDiskBytes(directory);
          }));
  options.disk = disk_.get();
  ASSERT_OK_AND_ASSIGN(trainer_, trainer::Trainer::Create(options));
  ASSERT_OK_AND_ASSIGN(trainer_server_,
                       RpcServer::Create({}, trainer_->services()));
  trainer_server_->SetServing(true);
  const auto channel = MakeChannel(trainer_address());
  training_ = trainer::v1::TrainingService::NewStub(channel);
  worker_ = trainer::v1::WorkerService::NewStub(channel);
  registry_ = registry::v1::RegistryService::NewStub(channel);
}

void ClusterTest::TearDown() {
  if (trainer_ != nullptr) trainer_->Stop();
  for (RpcServer* server : {trainer_server_.get(), curator_server_.get()}) {
    if (server != nullptr) server->Drain(/*grace_seconds=*/5);
  }
  trainer_server_.reset();
  curator_server_.reset();
  if (executor_ != nullptr) executor_->Shutdown();
}

absl::StatusOr<registry::v1::Model> ClusterTest::ImportModel(
    const std::string& name, const std::string& dir) {
  const auto context = MakeContext(kTransferTimeoutSeconds);
  registry::v1::ImportModelResponse response;
  const auto writer = registry_->ImportModel(context.get(), &response);
  registry::v1::ImportModelRequest request;
  request.mutable_header()->set_name(name);
  request.mutable_header()->set_request_id(NewRequestId());
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(dir));
  SL_ASSIGN_OR_RETURN(*request.mutable_header()->mutable_size(),
                      MeasureFiles(dir, paths));
  writer->Write(request);
  const absl::Status sent =
      SendFiles(dir, paths, [&](common::v1::FileChunk chunk) {
        registry::v1::ImportModelRequest part;
        *part.mutable_chunk() = std::move(chunk);
        return writer->Write(part);
      });
  writer->WritesDone();
  SL_RETURN_IF_ERROR(FromGrpc(writer->Finish()));
  SL_RETURN_IF_ERROR(sent);
  return response.model();
}

void ClusterTest::AddInputs() {
  const std::string dir = JoinPath(dir_->path(), "base-model");
  ASSERT_OK(WriteTinyModel(dir, {}));
  ASSERT_OK_AND_ASSIGN(const auto model, ImportModel("base", dir));
  curator::v1::Dataset& dataset = dataset_.dataset;
  dataset.set_name("data");
  dataset.set_digest("d1");
  dataset.set_tokenizer_digest(model.tokenizer_digest());
  dataset.mutable_recipe()->set_context_tokens(kContextTokens);
  dataset.mutable_counts()->set_train_examples(kTrainExamples);
  dataset.mutable_counts()->set_validation_examples(kValidationExamples);
  for (uint64_t i = 0; i < kTrainExamples; ++i) {
    dataset_.train.push_back(MakeExample(i, kContextTokens));
  }
  for (uint64_t i = 0; i < kValidationExamples; ++i) {
    dataset_.validation.push_back(MakeExample(100 + i, kContextTokens));
  }
}

trainer::v1::TrainingSpec ClusterTest::Spec(const std::string& output) {
  trainer::v1::TrainingSpec spec;
  spec.set_base_model("base");
  spec.set_dataset("data");
  spec.set_output_name(output);
  spec.set_steps(6);
  spec.set_context_tokens(128);
  spec.mutable_optimizer()->set_learning_rate(1e-2);
  spec.mutable_optimizer()->set_warmup_steps(2);
  spec.set_micro_batch_examples(1);
  spec.set_accumulation_steps(2);
  spec.set_checkpoint_every_steps(2);
  return spec;
}

absl::StatusOr<trainer::v1::TrainingJob> ClusterTest::Create(
    const trainer::v1::TrainingSpec& spec) {
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::CreateTrainingJobRequest request;
  *request.mutable_spec() = spec;
  request.set_request_id(NewRequestId());
  trainer::v1::CreateTrainingJobResponse response;
  SL_RETURN_IF_ERROR(FromGrpc(
      training_->CreateTrainingJob(context.get(), request, &response)));
  return response.job();
}

trainer::v1::TrainingJob ClusterTest::Submit(
    const trainer::v1::TrainingSpec& spec) {
  const auto job = Create(spec);
  EXPECT_OK(job);
  return job.value_or(trainer::v1::TrainingJob());
}

trainer::v1::TrainingJob ClusterTest::Job(const std::string& name) {
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::GetTrainingJobRequest request;
  request.set_name(name);
  trainer::v1::GetTrainingJobResponse response;
  EXPECT_OK(
      FromGrpc(training_->GetTrainingJob(context.get(), request, &response)));
  return response.job();
}

absl::Status ClusterTest::Cancel(const std::string& name) {
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::CancelTrainingJobRequest request;
  request.set_name(name);
  request.set_request_id(NewRequestId());
  trainer::v1::CancelTrainingJobResponse response;
  return FromGrpc(
      training_->CancelTrainingJob(context.get(), request, &response));
}

absl::StatusOr<registry::v1::Adapter> ClusterTest::Adapter(
    const std::string& name) {
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  registry::v1::GetAdapterRequest request;
  request.set_name(name);
  registry::v1::GetAdapterResponse response;
  SL_RETURN_IF_ERROR(
      FromGrpc(registry_->GetAdapter(context.get(), request, &response)));
  return response.adapter();
}

std::vector<trainer::v1::JobEvent> ClusterTest::Watch(
    const std::string& name,
    const std::function<bool(const trainer::v1::JobEvent&)>& enough) {
  const auto context = MakeContext(/*timeout_seconds=*/120);
  trainer::v1::WatchTrainingJobRequest request;
  request.set_name(name);
  const auto reader = training_->WatchTrainingJob(context.get(), request);
  std::vector<trainer::v1::JobEvent> events;
  trainer::v1::WatchTrainingJobResponse response;
  while (reader->Read(&response)) {
    EXPECT_EQ(response.event().sequence(),
              static_cast<int64_t>(events.size()) + 1);
    events.push_back(response.event());
    if (enough && enough(events.back())) {
      context->TryCancel();
      (void)reader->Finish();
      return events;
    }
  }
  EXPECT_OK(FromGrpc(reader->Finish()));
  return events;
}

double ClusterTest::Metric(const MetricsRegistry& registry,
                           const std::string& series) {
  const std::string text = registry.Serialize();
  const size_t at = text.find("\n" + series + " ");
  if (at == std::string::npos) return -1;
  return std::stod(text.substr(at + series.size() + 2));
}

}  // namespace sinklora::testing
