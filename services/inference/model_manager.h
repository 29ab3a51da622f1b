// Targets by name: loads them from the registry when first asked for, keeps
// them, drops them.
//
// Every request asks the registry what its names stand for now, so a model that
// was deleted and imported anew under the same name is served with its new
// weights from the next request on. Where the registry cannot be reached, a
// loaded target goes on being served as it is (names are immutable while they
// exist); this is logged and counted, and the registry is left alone for a few
// seconds.
//
// Thread-safe. Loads run one at a time: files on the caller's thread, device
// work on the engine. A loaded target makes room for another one only after the
// files of that are here and checked; only a lack of device memory can then
// still leave both unloaded (the old one must go first, for its memory).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_INFERENCE_MODEL_MANAGER_H_
#define SINKLORA_SERVICES_INFERENCE_MODEL_MANAGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/model/weight_type.h"
#include "common/weights/model_files.h"
#include "services/inference/artifact_cache.h"
#include "services/inference/artifact_source.h"
#include "services/inference/engine.h"
#include "services/inference/metrics.h"
#include "services/inference/served_target.h"

namespace sinklora::inference {

class ModelManager {
 public:
  struct Options {
    std::string cache_directory;
    WeightType weight_type = WeightType::kFloat32;
    // Loaded targets; beyond it the one that was idle longest is dropped.
    int max_loaded_targets = 32;
  };
  // Borrows all pointers; they must outlive the manager and every target.
  static absl::StatusOr<std::unique_ptr<ModelManager>> Create(
      const Options& options, ArtifactSource* source, Engine* engine,
      InferenceMetrics* metrics, Clock* clock);

  // The loaded target, loaded now if need be. kInvalidArgument for a malformed
  // spec, kNotFound for an unknown name, kFailedPrecondition for an adapter of
  // another base, kUnavailable when the registry cannot be reached and the
  // target is not loaded, kResourceExhausted when all loaded ones are busy.
  absl::StatusOr<std::shared_ptr<ServedTarget>> Acquire(const TargetSpec& spec);
  // Forgets the target, or without adapter the model and all its adapters. The
  // memory is free when the last running request ends.
  absl::Status Unload(const TargetSpec& spec);
  // In order of name.
  std::vector<std::shared_ptr<ServedTarget>> List() const;

 private:
  // What the names of a spec stand for.
  struct Resolved {
    Artifact model;
    std::optional<AdapterArtifact> adapter;
  };
  struct Entry {
    std::shared_ptr<ServedTarget> target;
    int64_t last_use = 0;  // counts acquisitions
  };
  ModelManager(const Options& options, ArtifactSource* source, Engine* engine,
               InferenceMetrics* metrics, Clock* clock);

  absl::StatusOr<Resolved> Resolve(const TargetSpec& spec);
  std::shared_ptr<ServedTarget> FindLoaded(const TargetSpec& spec);
  std::shared_ptr<ServedTarget> FindCurrent(const TargetSpec& spec,
                                            const Resolved& resolved);
  absl::StatusOr<std::shared_ptr<ServedTarget>> Load(const TargetSpec& spec,
                                                     const Resolved& resolved)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mutex_);
  // A base model as far as it goes without device memory: loaded already, for
  // another target, or its files, checked.
  struct OpenedBase {
    std::shared_ptr<const LoadedBase> loaded;
    std::unique_ptr<ModelFiles> files;
    std::shared_ptr<const Tokenizer> tokenizer;
    // As in LoadedBase.
    absl::StatusOr<std::optional<ChatFormat>> chat_format = std::nullopt;
    const LlamaConfig& config() const {
      return loaded != nullptr ? loaded->weights->config() : files->config();
    }
  };
  absl::StatusOr<OpenedBase> OpenBase(const Artifact& model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mutex_);
  absl::StatusOr<std::shared_ptr<const LoadedBase>> LoadBase(
      const Artifact& model, OpenedBase opened)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mutex_);
  absl::StatusOr<std::optional<PeftAdapter>> ReadAdapter(
      const Resolved& resolved, const LlamaConfig& base)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mutex_);
  // Drops idle targets until one more may be loaded; with `dry_run` only tells
  // whether that will do.
  absl::Status MakeRoom(bool dry_run);
  void Forget(const TargetSpec& spec);
  bool RegistryIsDown() const;
  void NoteRegistryStatus(const absl::Status& status);

  const Options options_;
  ArtifactSource* const source_;
  Engine* const engine_;
  InferenceMetrics* const metrics_;
  Clock* const clock_;

  Mutex load_mutex_;  // taken before mutex_
  std::unique_ptr<ArtifactCache> cache_ ABSL_GUARDED_BY(load_mutex_);

  mutable Mutex mutex_;
  std::map<TargetSpec, Entry> targets_ ABSL_GUARDED_BY(mutex_);
  // By model digest; alive as long as a target uses it.
  std::map<std::string, std::weak_ptr<const LoadedBase>> bases_
      ABSL_GUARDED_BY(load_mutex_);
  int64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t registry_down_until_micros_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sinklora::inference

#endif  // SINKLORA_SERVICES_INFERENCE_MODEL_MANAGER_H_
