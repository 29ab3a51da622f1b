// SPDX-License-Identifier: Apache-2.0
#include "tests/services/trainer/trainer_fixture.h"

#include <filesystem>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/weights/checkpoint_manifest.h"
#include "common/weights/peft_adapter.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::trainer {

absl::StatusOr<curator::v1::Dataset> FakeDatasets::GetDataset(
    const std::string& name) {
  if (!failure.ok()) return failure;
  const auto it = datasets.find(name);
  if (it == datasets.end()) return absl::NotFoundError("no dataset " + name);
  return it->second;
}

void TrainerCoreTest::SetUp() {
  ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
  Reopen();
}

void TrainerCoreTest::Reopen() {
  jobs_.reset();
  registry_.reset();
  artifacts_.reset();
  store_.reset();
  rocks_.reset();
  metrics_registry_ = MetricsRegistry::Create();
  metrics_ = std::make_unique<TrainerMetrics>(metrics_registry_.get());
  ASSERT_OK_AND_ASSIGN(rocks_, OpenRocksStore(JoinPath(dir_->path(), "state")));
  store_ = std::make_unique<testing::FaultyStore>(rocks_.get());
  ASSERT_OK_AND_ASSIGN(disk_,
                       DiskBudget::Create(dir_->path(), disk_reserve_bytes_));
  ASSERT_OK_AND_ASSIGN(artifacts_,
                       ArtifactStore::Create({dir_->path(), disk_.get()}));
  ASSERT_OK_AND_ASSIGN(
      registry_, Registry::Create({store_.get(), artifacts_.get(), &clock_,
                                   metrics_.get()}));
  JobManager::Options options;
  options.store = store_.get();
  options.artifacts = artifacts_.get();
  options.registry = registry_.get();
  options.datasets = &datasets_;
  options.clock = jobs_clock_;
  options.metrics = metrics_.get();
  options.lease_ttl_seconds = kTtlSeconds;
  options.max_attempts = kMaxAttempts;
  options.kept_events = kept_events_;
  ASSERT_OK_AND_ASSIGN(jobs_, JobManager::Create(options));
}

void TrainerCoreTest::AddInputs() {
  const auto staged = StageModel();
  ASSERT_OK_AND_ASSIGN(const auto model,
                       ImportModel("base", "import", *staged));
  curator::v1::Dataset& dataset = datasets_.datasets["data"];
  dataset.set_name("data");
  dataset.set_digest("d1");
  dataset.set_tokenizer_digest(model.tokenizer_digest());
  dataset.mutable_recipe()->set_context_tokens(128);
  dataset.mutable_counts()->set_train_examples(10);
  dataset.mutable_counts()->set_validation_examples(2);
}

v1::TrainingSpec TrainerCoreTest::Spec(const std::string& output) {
  v1::TrainingSpec spec;
  spec.set_base_model("base");
  spec.set_dataset("data");
  spec.set_output_name(output);
  spec.set_steps(100);
  return spec;
}

v1::TrainingJob TrainerCoreTest::Submit(const std::string& output) {
  v1::CreateTrainingJobRequest request;
  *request.mutable_spec() = Spec(output);
  request.set_request_id(NextRequestId());
  const auto job = jobs_->CreateJob(request);
  EXPECT_OK(job);
  return job.value_or(v1::TrainingJob());
}

absl::StatusOr<v1::LeaseJobResponse> TrainerCoreTest::Ask(
    const std::string& worker, int devices) {
  v1::LeaseJobRequest request;
  request.set_worker_id(worker);
  request.set_devices(devices);
  request.set_can_join(devices > 0);
  return jobs_->LeaseJob(request);
}

v1::Lease TrainerCoreTest::Lease(const std::string& worker) {
  const auto response = Ask(worker);
  EXPECT_OK(response);
  EXPECT_TRUE(response.ok() && response->has_lease());
  return response.ok() ? response->lease() : v1::Lease();
}

v1::TrainingJob TrainerCoreTest::Job(const std::string& name) {
  const auto job = jobs_->GetJob(name);
  EXPECT_OK(job);
  return job.value_or(v1::TrainingJob());
}

absl::StatusOr<v1::Checkpoint> TrainerCoreTest::Commit(
    const v1::Lease& lease, int64_t step, const std::string& content) {
  SL_ASSIGN_OR_RETURN(const auto staged, artifacts_->NewStaging());
  SL_RETURN_IF_ERROR(
      WriteFileAtomic(JoinPath(staged->path(), kCheckpointStateFile), content));
  SL_RETURN_IF_ERROR(WriteCheckpointManifest(
      staged->path(),
      {step, "{}", static_cast<int64_t>(content.size()), Sha256Hex(content)}));
  SL_ASSIGN_OR_RETURN(const auto files, DescribeFiles(staged->path()));
  v1::CommitCheckpointHeader header;
  *header.mutable_lease() = lease;
  header.set_step(step);
  return jobs_->CommitCheckpoint(header, staged->path(), files);
}

absl::StatusOr<v1::TrainingJob> TrainerCoreTest::Finish(const v1::Lease& lease,
                                                        v1::JobState outcome) {
  v1::FinishJobHeader header;
  *header.mutable_lease() = lease;
  header.set_outcome(outcome);
  if (outcome == v1::JOB_STATE_FAILED) {
    header.set_message("the loss is nan at step 7");
    header.set_error_reason("NON_FINITE_LOSS");
  }
  SL_ASSIGN_OR_RETURN(const auto staged, artifacts_->NewStaging());
  if (outcome == v1::JOB_STATE_SUCCEEDED) {
    SL_RETURN_IF_ERROR(WriteAdapter(staged->path()));
  }
  SL_ASSIGN_OR_RETURN(const auto files, DescribeFiles(staged->path()));
  return jobs_->FinishJob(header, staged->path(), files);
}

absl::StatusOr<v1::HeartbeatResponse> TrainerCoreTest::Beat(
    const v1::Lease& lease, std::vector<int64_t> steps) {
  v1::HeartbeatRequest request;
  *request.mutable_lease() = lease;
  for (const int64_t step : steps) {
    v1::TrainingMetrics* metrics = request.add_metrics();
    metrics->set_step(step);
    metrics->set_loss(10.0 / static_cast<double>(step));
  }
  return jobs_->Heartbeat(request);
}

absl::Status TrainerCoreTest::Delete(const std::string& job,
                                     const std::string& request_id) {
  v1::DeleteTrainingJobRequest request;
  request.set_name(job);
  request.set_request_id(request_id);
  return jobs_->DeleteJob(request);
}

void TrainerCoreTest::ExpireLease() {
  clock_.AdvanceSeconds(kTtlSeconds);
  jobs_->ExpireLeases();
}

std::string TrainerCoreTest::ReasonOf(const absl::Status& status) {
  return GetErrorDetail(status).reason;
}

absl::Status TrainerCoreTest::WriteAdapter(const std::string& dir,
                                           float value) {
  const LlamaConfig config = testing::TinyModelConfig({});
  PeftAdapter adapter;
  adapter.base_model = "base";
  adapter.rank = 2;
  adapter.lora_alpha = 4;
  adapter.target_modules.names = {"q_proj"};
  adapter.context_tokens = 128;
  adapter.rope_factor = 2;
  const int64_t out = config.num_heads * config.head_dim;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string name =
        "model.layers." + std::to_string(layer) + ".self_attn.q_proj";
    adapter.lora_a[name] = HostTensor::FromF32(
        {2, config.hidden_size},
        std::vector<float>(static_cast<size_t>(2 * config.hidden_size), value));
    adapter.lora_b[name] = HostTensor::FromF32(
        {out, 2}, std::vector<float>(static_cast<size_t>(2 * out), value));
  }
  return WritePeftAdapter(adapter, dir);
}

std::unique_ptr<TempDir> TrainerCoreTest::StageModel(uint64_t seed) {
  auto staged = artifacts_->NewStaging();
  EXPECT_OK(staged);
  testing::TinyModelOptions options;
  options.seed = seed;
  EXPECT_OK(testing::WriteTinyModel((*staged)->path(), options));
  return *std::move(staged);
}

std::unique_ptr<TempDir> TrainerCoreTest::StageAdapter(float value) {
  auto staged = artifacts_->NewStaging();
  EXPECT_OK(staged);
  EXPECT_OK(WriteAdapter((*staged)->path(), value));
  return *std::move(staged);
}

absl::StatusOr<registry::v1::Model> TrainerCoreTest::ImportModel(
    const std::string& name, const std::string& request_id,
    const TempDir& staged) {
  SL_ASSIGN_OR_RETURN(const auto files, DescribeFiles(staged.path()));
  registry::v1::ImportModelHeader header;
  header.set_name(name);
  header.set_request_id(request_id);
  return registry_->ImportModel(header, staged.path(), files);
}

absl::StatusOr<registry::v1::Adapter> TrainerCoreTest::ImportAdapter(
    const std::string& name, const std::string& request_id,
    const TempDir& staged, const std::string& base) {
  SL_ASSIGN_OR_RETURN(const auto files, DescribeFiles(staged.path()));
  registry::v1::ImportAdapterHeader header;
  header.set_name(name);
  header.set_base_model(base);
  header.set_request_id(request_id);
  return registry_->ImportAdapter(header, staged.path(), files);
}

int TrainerCoreTest::CountDirs(const std::string& kind) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(JoinPath(dir_->path(), kind))) {
    count += entry.exists() ? 1 : 0;
  }
  return count;
}

double TrainerCoreTest::Metric(const std::string& name, const Labels& labels) {
  std::string series = name;
  if (!labels.empty()) {
    series += "{";
    for (const auto& [key, value] : labels) {
      if (series.back() != '{') series += ",";
      series += key + "=\"" + value + "\"";
    }
    series += "}";
  }
  const std::string text = metrics_registry_->Serialize();
  const size_t at = text.find("\n" + series + " ");
  if (at == std::string::npos) return -1;
  return std::stod(text.substr(at + series.size() + 2));
}

std::string TrainerCoreTest::NextRequestId() {
  return "request-" + std::to_string(++next_request_);
}

}  // namespace sinklora::trainer
