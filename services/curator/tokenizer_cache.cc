// SPDX-License-Identifier: Apache-2.0
#include "services/curator/tokenizer_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"

namespace sinklora::curator {
namespace {

constexpr std::string_view kTokenizerFiles[] = {
    "config.json",    "generation_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model",        "tokenizer_config.json"};

constexpr size_t kMaxLoaded = 4;

std::vector<StoredFile> TokenizerFilesOf(const ModelSource::Model& model) {
  std::vector<StoredFile> files;
  for (const StoredFile& file : model.files) {
    if (std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles),
                  file.path) != std::end(kTokenizerFiles)) {
      files.push_back(file);
    }
  }
  std::sort(
      files.begin(), files.end(),
      [](const StoredFile& a, const StoredFile& b) { return a.path < b.path; });
  return files;
}

std::string KeyOf(const std::vector<StoredFile>& files) {
  std::string listing;
  for (const StoredFile& file : files) {
    listing += fmt::format("{} {}\n", file.sha256, file.path);
  }
  return Sha256Hex(listing);
}

}  // namespace

// The lock orders this after the calls that filled it: their threads are joined
// inside gRPC, where ThreadSanitizer does not see it.
TokenizerCache::~TokenizerCache() {
  MutexLock lock(&mutex_);
  loaded_.clear();
}

absl::StatusOr<CachedTokenizer> TokenizerCache::OfModel(
    const std::string& model, const CancelledFn& cancelled) {
  SL_ASSIGN_OR_RETURN(const ModelSource::Model description,
                      models_->Describe(model));
  const std::vector<StoredFile> files = TokenizerFilesOf(description);
  const std::string key = KeyOf(files);
  auto cached = OfKey(key);
  if (!absl::IsNotFound(cached.status())) return cached;
  std::vector<std::string> paths;
  for (const StoredFile& file : files) paths.push_back(file.path);
  SL_RETURN_IF_ERROR(Annotate(Fetch(model, paths, description, key, cancelled),
                              fmt::format("tokenizer of model \"{}\"", model)));
  return OfKey(key);
}

absl::Status TokenizerCache::Fetch(const std::string& model,
                                   const std::vector<std::string>& paths,
                                   const ModelSource::Model& description,
                                   const std::string& key,
                                   const CancelledFn& cancelled) {
  if (paths.empty()) {
    return absl::InvalidArgumentError("the model has no tokenizer files");
  }
  SL_ASSIGN_OR_RETURN(const auto stage, TempDir::Create(layout_.staging()));
  const std::string directory = JoinPath(stage->path(), "tokenizer");
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  SL_RETURN_IF_ERROR(models_->Download(model, paths, directory, cancelled));
  SL_ASSIGN_OR_RETURN(const auto tokenizer,
                      Tokenizer::LoadFromDirectory(directory));
  if (tokenizer->digest() != description.tokenizer_digest) {
    return absl::DataLossError(
        fmt::format("digest of the downloaded tokenizer is {}, the registry "
                    "says {}",
                    tokenizer->digest(), description.tokenizer_digest));
  }
  return CommitContent(directory, layout_.Tokenizer(key));
}

absl::StatusOr<CachedTokenizer> TokenizerCache::OfKey(const std::string& key) {
  MutexLock lock(&mutex_);
  for (auto it = loaded_.begin(); it != loaded_.end(); ++it) {
    if (it->key != key) continue;
    std::rotate(it, it + 1, loaded_.end());
    return loaded_.back();
  }
  SL_ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer,
                      Tokenizer::LoadFromDirectory(layout_.Tokenizer(key)));
  if (loaded_.size() == kMaxLoaded) loaded_.erase(loaded_.begin());
  loaded_.push_back({std::move(tokenizer), key});
  return loaded_.back();
}

}  // namespace sinklora::curator
