// SPDX-License-Identifier: Apache-2.0
#include "services/curator/dataset_store.h"

#include <fmt/format.h>

#include <optional>

#include "common/base/hash.h"
#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "services/curator/dataset_builder.h"
#include "services/curator/dataset_export.h"
#include "services/curator/metadata_json.h"
#include "services/curator/recipe.h"

namespace sinklora::curator {

struct DatasetStore::Plan {
  DatasetInfo dataset;  // all but digest, counts and time
  std::vector<SourceInfo> sources;
  std::shared_ptr<const Tokenizer> tokenizer;
};

namespace {

RequestKey KeyOf(const CurateRequest& request) {
  const nlohmann::json content = {request.name, RecipeToJson(request.recipe)};
  return {"Curate", request.request_id, Sha256Hex(content.dump())};
}

// True when building `planned` again would give `stored`.
bool SameContent(const DatasetInfo& stored, const DatasetInfo& planned) {
  return stored.recipe == planned.recipe &&
         stored.source_digests == planned.source_digests &&
         stored.tokenizer_digest == planned.tokenizer_digest &&
         stored.begin_token_id == planned.begin_token_id &&
         stored.end_token_id == planned.end_token_id;
}

}  // namespace

absl::StatusOr<DatasetInfo> DatasetStore::Curate(const CurateRequest& request,
                                                 const CancelledFn& cancelled,
                                                 const ProgressFn& progress) {
  SL_RETURN_IF_ERROR(ValidateId("name", request.name));
  SL_RETURN_IF_ERROR(ValidateRecipe(request.recipe));
  SL_ASSIGN_OR_RETURN(
      const auto guard,
      options_.locks->Acquire("dataset/" + request.name, cancelled));
  const RequestKey key = KeyOf(request);
  SL_ASSIGN_OR_RETURN(std::optional<DatasetInfo> seen,
                      options_.catalog->FindCurate(key));
  if (seen.has_value()) return *std::move(seen);

  SL_ASSIGN_OR_RETURN(const Plan plan, MakePlan(request, cancelled));
  auto existing = options_.catalog->GetDataset(request.name);
  if (absl::IsNotFound(existing.status())) {
    return Build(plan, key, cancelled, progress);
  }
  SL_RETURN_IF_ERROR(existing.status());
  if (!SameContent(*existing, plan.dataset)) {
    return MakeError(
        absl::StatusCode::kAlreadyExists,
        fmt::format("dataset \"{}\" exists and was made of another recipe, "
                    "other sources or another tokenizer; its digest is {}",
                    request.name, existing->digest),
        {"ALREADY_EXISTS", {{"dataset", request.name}}});
  }
  SL_RETURN_IF_ERROR(options_.catalog->PutDataset(*existing, key));
  return existing;
}

absl::StatusOr<DatasetStore::Plan> DatasetStore::MakePlan(
    const CurateRequest& request, const CancelledFn& cancelled) {
  Plan plan;
  plan.dataset.name = request.name;
  for (const std::string& name : request.recipe.sources) {
    SL_ASSIGN_OR_RETURN(SourceInfo source, options_.catalog->GetSource(name));
    plan.dataset.source_digests.push_back(source.digest);
    plan.sources.push_back(std::move(source));
  }
  SL_ASSIGN_OR_RETURN(plan.dataset.recipe,
                      ResolveRecipe(request.recipe, plan.sources));
  SL_ASSIGN_OR_RETURN(
      CachedTokenizer cached,
      options_.tokenizers->OfModel(request.recipe.tokenizer_model, cancelled));
  plan.tokenizer = std::move(cached.tokenizer);
  plan.dataset.tokenizer_digest = plan.tokenizer->digest();
  plan.dataset.begin_token_id = plan.tokenizer->bos_id();
  plan.dataset.end_token_id = plan.tokenizer->eos_id();
  plan.dataset.tokenizer_files_digest = std::move(cached.key);
  return plan;
}

absl::StatusOr<DatasetInfo> DatasetStore::Build(const Plan& plan,
                                                const RequestKey& key,
                                                const CancelledFn& cancelled,
                                                const ProgressFn& progress) {
  const int64_t start_micros = options_.clock->MonotonicMicros();
  DatasetInfo dataset = plan.dataset;
  std::vector<std::unique_ptr<SourceReader>> readers;
  BuildInput input;
  input.recipe = dataset.recipe;
  input.source_digests = dataset.source_digests;
  input.tokenizer = plan.tokenizer.get();
  input.threads = options_.threads;
  input.cancelled = cancelled;
  input.progress = progress;
  for (const SourceInfo& source : plan.sources) {
    SL_ASSIGN_OR_RETURN(auto reader, options_.sources->OpenRecords(source));
    input.sources.push_back(reader.get());
    readers.push_back(std::move(reader));
  }
  SL_ASSIGN_OR_RETURN(const auto stage,
                      TempDir::Create(options_.layout.staging()));
  const std::string staged = JoinPath(stage->path(), "dataset");
  SL_RETURN_IF_ERROR(MakeDirs(staged));
  SL_ASSIGN_OR_RETURN(BuiltDataset built, BuildDataset(input, staged));
  dataset.digest = std::move(built.digest);
  dataset.counts = std::move(built.counts);
  dataset.create_time_micros = options_.clock->WallMicros();
  // The last moment: from here on the curation is done, also for a client that
  // goes.
  if (cancelled()) return absl::CancelledError("curation was cancelled");
  SL_RETURN_IF_ERROR(
      CommitContent(staged, options_.layout.Dataset(dataset.digest)));
  SL_RETURN_IF_ERROR(options_.catalog->PutDataset(dataset, key));
  options_.metrics->DatasetCurated(
      dataset.counts,
      static_cast<double>(options_.clock->MonotonicMicros() - start_micros) /
          1e6);
  LogInfo(
      "curated dataset {}: {} of {} records, {} training examples, {} "
      "training tokens, digest {}",
      dataset.name, dataset.counts.kept_records, dataset.counts.input_records,
      dataset.counts.train_examples, dataset.counts.train_tokens,
      dataset.digest);
  return dataset;
}

absl::StatusOr<std::unique_ptr<ExampleReader>> DatasetStore::OpenExamples(
    const std::string& name, const std::string& digest, Split split) {
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  SL_ASSIGN_OR_RETURN(const DatasetInfo dataset,
                      options_.catalog->GetDataset(name));
  if (!digest.empty() && digest != dataset.digest) {
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("dataset \"{}\" has digest {}, the request wants {}", name,
                    dataset.digest, digest),
        {"DIGEST_MISMATCH", {{"dataset", name}, {"digest", dataset.digest}}});
  }
  return ExampleReader::Open(
      JoinPath(options_.layout.Dataset(dataset.digest),
               split == Split::kTrain ? kTrainFile : kValidationFile));
}

absl::StatusOr<DatasetStore::Export> DatasetStore::MakeExport(
    const std::string& name, const CancelledFn& cancelled) {
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  SL_ASSIGN_OR_RETURN(const DatasetInfo dataset,
                      options_.catalog->GetDataset(name));
  const auto cached =
      options_.tokenizers->OfKey(dataset.tokenizer_files_digest);
  if (!cached.ok()) {
    // It was stored before the dataset was: its absence is damage.
    return absl::DataLossError(
        fmt::format("tokenizer of dataset \"{}\": {}", name,
                    std::string(cached.status().message())));
  }
  Export result;
  result.stored_directory = options_.layout.Dataset(dataset.digest);
  result.stored = {kLedgerFile, kManifestFile};
  SL_ASSIGN_OR_RETURN(result.scratch,
                      TempDir::Create(options_.layout.staging()));
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    SL_ASSIGN_OR_RETURN(const auto reader,
                        OpenExamples(name, dataset.digest, split));
    const std::string file =
        split == Split::kTrain ? "train.jsonl" : "validation.jsonl";
    SL_RETURN_IF_ERROR(
        WriteExamplesAsText(*reader, *cached->tokenizer, cancelled,
                            JoinPath(result.scratch->path(), file)));
    result.made.push_back(file);
  }
  return result;
}

}  // namespace sinklora::curator
