// SPDX-License-Identifier: Apache-2.0
#include "tests/services/curator/fixture.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/base/hash.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/text/bpe_trainer.h"

namespace sinklora::curator {

bool NotCancelled() { return false; }
void IgnoreProgress(const char*, int64_t, int64_t) {}

std::string SomeText(uint64_t seed, int words) {
  static constexpr const char* kWords[] = {
      "the",   "whale", "sea",   "of",    "and",     "captain", "old",
      "white", "ship",  "that",  "night", "harbour", "wind",    "sailed",
      "was",   "never", "again", "in",    "deep",    "water"};
  const CounterRng rng(seed, 1);
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += i % 12 == 0 ? ".\n" : " ";
    text += kWords[rng.Below(static_cast<uint64_t>(i), std::size(kWords))];
  }
  return text;
}

absl::Status WriteUnsynced(const std::string& path,
                           const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  return out.flush() ? absl::OkStatus()
                     : absl::InternalError("cannot write " + path);
}

absl::Status WriteTokenizer(const std::string& directory) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  BpeTrainerOptions options;
  options.vocab_size = 300;
  SL_ASSIGN_OR_RETURN(const std::string json,
                      TrainByteLevelBpe({SomeText(1, 500)}, options));
  SL_RETURN_IF_ERROR(
      WriteFileAtomic(JoinPath(directory, "tokenizer.json"), json));
  return WriteFileAtomic(
      JoinPath(directory, "tokenizer_config.json"),
      R"({"bos_token": "<|begin|>", "eos_token": "<|end|>"})");
}

absl::StatusOr<std::vector<StoredFile>> WriteFiles(const std::string& directory,
                                                   const Files& files) {
  for (const auto& [path, content] : files) {
    const std::string full = JoinPath(directory, path);
    SL_RETURN_IF_ERROR(
        MakeDirs(std::filesystem::path(full).parent_path().string()));
    SL_RETURN_IF_ERROR(WriteUnsynced(full, content));
  }
  return DescribeFiles(directory);
}

absl::StatusOr<std::vector<StoredFile>> DescribeFiles(
    const std::string& directory) {
  std::vector<StoredFile> described;
  SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(directory));
  for (const std::string& path : paths) {
    const std::string full = JoinPath(directory, path);
    SL_ASSIGN_OR_RETURN(const int64_t size_bytes, FileSize(full));
    SL_ASSIGN_OR_RETURN(std::string sha256, Sha256OfFile(full));
    described.push_back({path, size_bytes, std::move(sha256)});
  }
  return described;
}

std::vector<std::string> ListNames(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<ModelSource::Model> DirectoryModels::Describe(
    const std::string& name) {
  if (name != "tiny") return absl::NotFoundError("model \"" + name + "\"");
  Model model;
  SL_ASSIGN_OR_RETURN(model.files, DescribeFiles(directory_));
  SL_ASSIGN_OR_RETURN(const auto tokenizer,
                      Tokenizer::LoadFromDirectory(directory_));
  model.tokenizer_digest = tokenizer->digest();
  return model;
}

absl::Status DirectoryModels::Download(const std::string&,
                                       const std::vector<std::string>& paths,
                                       const std::string& directory,
                                       const CancelledFn&) {
  ++downloads_;
  for (const std::string& path : paths) {
    SL_ASSIGN_OR_RETURN(const std::string content,
                        ReadFile(JoinPath(directory_, path)));
    SL_RETURN_IF_ERROR(WriteUnsynced(JoinPath(directory, path), content));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CuratorFixture>> CuratorFixture::Create(
    int threads) {
  std::unique_ptr<CuratorFixture> fixture(new CuratorFixture());
  SL_ASSIGN_OR_RETURN(fixture->temp_, TempDir::Create());
  const std::string model = JoinPath(fixture->temp_->path(), "model");
  SL_RETURN_IF_ERROR(WriteTokenizer(model));
  SL_ASSIGN_OR_RETURN(fixture->tokenizer_, Tokenizer::LoadFromDirectory(model));
  fixture->models_ = std::make_unique<DirectoryModels>(model);
  SL_RETURN_IF_ERROR(fixture->Reopen(threads));
  return fixture;
}

absl::Status CuratorFixture::Reopen(int threads) {
  core_.reset();
  metrics_.reset();
  registry_ = MetricsRegistry::Create();
  metrics_ = std::make_unique<CuratorMetrics>(registry_.get());
  SL_ASSIGN_OR_RETURN(
      disk_, DiskBudget::Create(data_dir(), /*reserve_bytes=*/0,
                                [this](const std::string& directory) {
                                  return free_bytes_.has_value()
                                             ? *free_bytes_
                                             : FreeDiskBytes(directory);
                                }));
  SL_ASSIGN_OR_RETURN(core_, CuratorCore::Create({.data_dir = data_dir(),
                                                  .threads = threads,
                                                  .models = models_.get(),
                                                  .metrics = metrics_.get(),
                                                  .disk = disk_.get(),
                                                  .clock = &clock_}));
  return absl::OkStatus();
}

absl::StatusOr<SourceInfo> CuratorFixture::Import(const std::string& name,
                                                  const Files& files,
                                                  const std::string& request_id,
                                                  SourceFormat format) {
  SL_ASSIGN_OR_RETURN(const auto upload, core_->NewUploadDir());
  SL_ASSIGN_OR_RETURN(auto described, WriteFiles(upload->path(), files));
  return core_->ImportSource({name, format, request_id}, upload->path(),
                             std::move(described), NotCancelled);
}

absl::StatusOr<DatasetInfo> CuratorFixture::Curate(
    const std::string& name, const Recipe& recipe,
    const std::string& request_id) {
  return core_->Curate({name, recipe, request_id}, NotCancelled,
                       IgnoreProgress);
}

absl::StatusOr<std::vector<TrainingExample>> CuratorFixture::Examples(
    const std::string& name, Split split) {
  SL_ASSIGN_OR_RETURN(const auto reader, core_->OpenExamples(name, "", split));
  std::vector<TrainingExample> examples;
  for (int64_t i = 0; i < reader->example_count(); ++i) {
    SL_ASSIGN_OR_RETURN(TrainingExample example, reader->Read(i));
    examples.push_back(std::move(example));
  }
  return examples;
}

absl::StatusOr<std::string> CuratorFixture::DatasetFile(
    const DatasetInfo& dataset, const std::string& file) const {
  return ReadFile(
      JoinPath(DataLayout{data_dir()}.Dataset(dataset.digest), file));
}

Recipe RecipeOf(std::vector<std::string> sources) {
  Recipe recipe;
  recipe.sources = std::move(sources);
  recipe.tokenizer_model = "tiny";
  recipe.context_tokens = 64;
  return recipe;
}

}  // namespace sinklora::curator
