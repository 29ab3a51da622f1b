// Tokenizers of registry models, kept on disk and in memory.
//
// The key is the hash of all files that a tokenizer is loaded from, not of
// tokenizer.json or tokenizer.model alone: the begin and end token come from
// the files beside it, and two models that differ in them make different
// datasets.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_TOKENIZER_CACHE_H_
#define SINKLORA_SERVICES_CURATOR_TOKENIZER_CACHE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/text/tokenizer.h"
#include "services/curator/data_layout.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// Where models come from. Implemented over the registry's RPCs; a seam that
// keeps gRPC out of the core. Thread-safe.
class ModelSource {
 public:
  virtual ~ModelSource() = default;
  struct Model {
    std::vector<StoredFile> files;
    std::string tokenizer_digest;
  };
  // kNotFound naming the model.
  virtual absl::StatusOr<Model> Describe(const std::string& name) = 0;
  // Writes files `paths` of the model below `directory`, which exists.
  virtual absl::Status Download(const std::string& name,
                                const std::vector<std::string>& paths,
                                const std::string& directory,
                                const CancelledFn& cancelled) = 0;
};

struct CachedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string key;
};

// Thread-safe. Borrows `models`.
class TokenizerCache {
 public:
  TokenizerCache(DataLayout layout, ModelSource* models)
      : layout_(std::move(layout)), models_(models) {}
  ~TokenizerCache();

  // The tokenizer the model has now. kNotFound naming the model; kDataLoss when
  // the downloaded tokenizer is not the one the registry says.
  absl::StatusOr<CachedTokenizer> OfModel(const std::string& model,
                                          const CancelledFn& cancelled);
  // One that OfModel returned, now or before a restart. kNotFound when it is
  // not on disk.
  absl::StatusOr<CachedTokenizer> OfKey(const std::string& key);

 private:
  absl::Status Fetch(const std::string& model,
                     const std::vector<std::string>& paths,
                     const ModelSource::Model& description,
                     const std::string& key, const CancelledFn& cancelled);

  const DataLayout layout_;
  ModelSource* const models_;
  Mutex mutex_;
  // Most recent last, a handful.
  std::vector<CachedTokenizer> loaded_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_TOKENIZER_CACHE_H_
