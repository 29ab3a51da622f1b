// SPDX-License-Identifier: Apache-2.0
#include "services/inference/model_manager.h"

#include <utility>

#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/text/chat_template_detection.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"

namespace sinklora::inference {
namespace {

constexpr int64_t kMaxContextTokens = 1048576;
// How long a registry that did not answer is left alone by requests that can do
// without it: each attempt costs them its connection time-outs.
constexpr int64_t kRegistryBackoffMicros = 5'000'000;

absl::Status CheckSpec(const TargetSpec& spec) {
  SL_RETURN_IF_ERROR(ValidateId("target.model", spec.model));
  if (!spec.adapter.empty()) {
    SL_RETURN_IF_ERROR(ValidateId("target.adapter", spec.adapter));
    if (spec.context_tokens != 0) {
      return absl::InvalidArgumentError(fmt::format(
          "target.context_tokens is {}, must be unset with an adapter, which "
          "brings its own context (target.adapter is {})",
          spec.context_tokens, spec.adapter));
    }
  }
  if (spec.context_tokens < 0 || spec.context_tokens > kMaxContextTokens) {
    return absl::InvalidArgumentError(
        fmt::format("target.context_tokens is {}, must be in [0, {}]",
                    spec.context_tokens, kMaxContextTokens));
  }
  return absl::OkStatus();
}

absl::Status CheckAdapterFits(const AdapterArtifact& adapter,
                              const Artifact& model) {
  if (adapter.base_model != model.name) {
    return absl::FailedPreconditionError(fmt::format(
        "target.adapter {} belongs to model {}, not to target.model {}",
        adapter.artifact.name, adapter.base_model, model.name));
  }
  if (adapter.base_model_digest != model.digest) {
    return absl::FailedPreconditionError(fmt::format(
        "target.adapter {} was tuned on model {} with digest {}, the model now "
        "has digest {}",
        adapter.artifact.name, model.name, adapter.base_model_digest,
        model.digest));
  }
  return absl::OkStatus();
}

// A shared_ptr whose object is destroyed on the engine thread.
template <typename T>
std::shared_ptr<T> MakeOnEngine(Engine* engine) {
  return std::shared_ptr<T>(new T, [engine](T* object) {
    engine->Post([object] { delete object; });
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelManager>> ModelManager::Create(
    const Options& options, ArtifactSource* source, Engine* engine,
    InferenceMetrics* metrics, Clock* clock) {
  if (options.max_loaded_targets < 1) {
    return absl::InvalidArgumentError(
        fmt::format("max_loaded_targets is {}, must be at least 1",
                    options.max_loaded_targets));
  }
  std::unique_ptr<ModelManager> manager(
      new ModelManager(options, source, engine, metrics, clock));
  MutexLock lock(&manager->load_mutex_);
  SL_ASSIGN_OR_RETURN(manager->cache_,
                      ArtifactCache::Create(options.cache_directory));
  return manager;
}

ModelManager::ModelManager(const Options& options, ArtifactSource* source,
                           Engine* engine, InferenceMetrics* metrics,
                           Clock* clock)
    : options_(options),
      source_(source),
      engine_(engine),
      metrics_(metrics),
      clock_(clock) {}

absl::StatusOr<std::shared_ptr<ServedTarget>> ModelManager::Acquire(
    const TargetSpec& spec) {
  SL_RETURN_IF_ERROR(CheckSpec(spec));
  if (RegistryIsDown()) {
    if (auto target = FindLoaded(spec)) return target;
  }
  absl::StatusOr<Resolved> resolved = Resolve(spec);
  NoteRegistryStatus(resolved.status());
  if (absl::IsUnavailable(resolved.status())) {
    if (auto target = FindLoaded(spec)) {
      LogWarning("serving {} as loaded: {}", spec.model,
                 std::string(resolved.status().message()));
      return target;
    }
  }
  if (absl::IsNotFound(resolved.status())) Forget(spec);
  SL_RETURN_IF_ERROR(resolved.status());
  if (auto target = FindCurrent(spec, *resolved)) return target;

  MutexLock lock(&load_mutex_);
  // While this request waited, another may have loaded the target, or the name
  // may have come to stand for something else.
  SL_ASSIGN_OR_RETURN(*resolved, Resolve(spec));
  if (auto target = FindCurrent(spec, *resolved)) return target;
  Forget(spec);
  absl::StatusOr<std::shared_ptr<ServedTarget>> target = Load(spec, *resolved);
  NoteRegistryStatus(target.status());
  return target;
}

absl::StatusOr<ModelManager::Resolved> ModelManager::Resolve(
    const TargetSpec& spec) {
  Resolved resolved;
  SL_ASSIGN_OR_RETURN(resolved.model, source_->GetModel(spec.model));
  if (!spec.adapter.empty()) {
    SL_ASSIGN_OR_RETURN(resolved.adapter, source_->GetAdapter(spec.adapter));
    SL_RETURN_IF_ERROR(CheckAdapterFits(*resolved.adapter, resolved.model));
  }
  return resolved;
}

std::shared_ptr<ServedTarget> ModelManager::FindLoaded(const TargetSpec& spec) {
  MutexLock lock(&mutex_);
  const auto it = targets_.find(spec);
  if (it == targets_.end()) return nullptr;
  it->second.last_use = ++uses_;
  return it->second.target;
}

std::shared_ptr<ServedTarget> ModelManager::FindCurrent(
    const TargetSpec& spec, const Resolved& resolved) {
  std::shared_ptr<ServedTarget> target = FindLoaded(spec);
  if (target == nullptr) return nullptr;
  const std::string adapter_digest =
      resolved.adapter ? resolved.adapter->artifact.digest : "";
  const bool is_current = target->base->digest == resolved.model.digest &&
                          target->adapter_digest == adapter_digest;
  return is_current ? target : nullptr;
}

absl::StatusOr<std::shared_ptr<ServedTarget>> ModelManager::Load(
    const TargetSpec& spec, const Resolved& resolved) {
  SL_RETURN_IF_ERROR(MakeRoom(/*dry_run=*/true));
  SL_ASSIGN_OR_RETURN(OpenedBase opened, OpenBase(resolved.model));
  const LlamaConfig& config = opened.config();
  if (spec.context_tokens != 0 &&
      spec.context_tokens < config.context_tokens()) {
    return absl::InvalidArgumentError(fmt::format(
        "target.context_tokens is {}, must be at least {}, the context of "
        "model {}",
        spec.context_tokens, config.context_tokens(), spec.model));
  }
  SL_ASSIGN_OR_RETURN(const std::optional<PeftAdapter> adapter,
                      ReadAdapter(resolved, config));
  SL_RETURN_IF_ERROR(MakeRoom(/*dry_run=*/false));
  auto target = MakeOnEngine<ServedTarget>(engine_);
  target->spec = spec;
  if (resolved.adapter) {
    target->adapter_digest = resolved.adapter->artifact.digest;
  }
  SL_ASSIGN_OR_RETURN(target->base,
                      LoadBase(resolved.model, std::move(opened)));
  SL_RETURN_IF_ERROR(engine_->RunInternal([&](kernels::Backend*) {
    SL_ASSIGN_OR_RETURN(target->model,
                        ServedModel::Create(target->base->weights,
                                            adapter ? &*adapter : nullptr,
                                            spec.context_tokens));
    return absl::OkStatus();
  }));
  LogInfo("loaded model {} adapter '{}' with a context of {} tokens",
          spec.model, spec.adapter, target->model->context_tokens());
  MutexLock lock(&mutex_);
  targets_[spec] = {target, ++uses_};
  metrics_->loaded_models->Set(static_cast<double>(targets_.size()));
  return target;
}

absl::StatusOr<ModelManager::OpenedBase> ModelManager::OpenBase(
    const Artifact& model) {
  OpenedBase opened;
  if (const auto it = bases_.find(model.digest); it != bases_.end()) {
    opened.loaded = it->second.lock();
    if (opened.loaded != nullptr) return opened;
  }
  SL_ASSIGN_OR_RETURN(
      const std::string directory,
      cache_->Fetch("models", model, [&](const std::string& staged) {
        return source_->DownloadModel(model, staged);
      }));
  SL_ASSIGN_OR_RETURN(opened.files, ModelFiles::Open(directory));
  SL_ASSIGN_OR_RETURN(opened.tokenizer,
                      Tokenizer::LoadFromDirectory(directory));
  opened.chat_format = ReadChatFormat(directory);
  return opened;
}

absl::StatusOr<std::shared_ptr<const LoadedBase>> ModelManager::LoadBase(
    const Artifact& model, OpenedBase opened) {
  if (opened.loaded != nullptr) return std::move(opened.loaded);
  auto base = MakeOnEngine<LoadedBase>(engine_);
  base->digest = model.digest;
  base->tokenizer = std::move(opened.tokenizer);
  base->chat_format = std::move(opened.chat_format);
  SL_RETURN_IF_ERROR(engine_->RunInternal([&](kernels::Backend* backend) {
    SL_ASSIGN_OR_RETURN(base->weights, BaseWeights::Load(backend, *opened.files,
                                                         options_.weight_type));
    return absl::OkStatus();
  }));
  std::erase_if(bases_, [](const auto& item) { return item.second.expired(); });
  bases_[model.digest] = base;
  return base;
}

absl::StatusOr<std::optional<PeftAdapter>> ModelManager::ReadAdapter(
    const Resolved& resolved, const LlamaConfig& base) {
  if (!resolved.adapter) return std::nullopt;
  const Artifact& artifact = resolved.adapter->artifact;
  SL_ASSIGN_OR_RETURN(
      const std::string directory,
      cache_->Fetch("adapters", artifact, [&](const std::string& staged) {
        return source_->DownloadAdapter(artifact, staged);
      }));
  SL_ASSIGN_OR_RETURN(PeftAdapter adapter, ReadPeftAdapter(directory, base));
  return adapter;
}

absl::Status ModelManager::MakeRoom(bool dry_run) {
  MutexLock lock(&mutex_);
  while (static_cast<int>(targets_.size()) >= options_.max_loaded_targets) {
    auto victim = targets_.end();
    for (auto it = targets_.begin(); it != targets_.end(); ++it) {
      const bool idle = it->second.target->running_requests.load() == 0;
      if (idle && (victim == targets_.end() ||
                   it->second.last_use < victim->second.last_use)) {
        victim = it;
      }
    }
    if (victim == targets_.end()) {
      return absl::ResourceExhaustedError(fmt::format(
          "{} targets are loaded and all are in use; at most {} can be loaded",
          targets_.size(), options_.max_loaded_targets));
    }
    if (dry_run) return absl::OkStatus();
    targets_.erase(victim);
    metrics_->loaded_models->Set(static_cast<double>(targets_.size()));
  }
  return absl::OkStatus();
}

absl::Status ModelManager::Unload(const TargetSpec& spec) {
  SL_RETURN_IF_ERROR(CheckSpec(spec));
  if (!spec.adapter.empty()) {
    Forget(spec);
    return absl::OkStatus();
  }
  MutexLock lock(&mutex_);
  std::erase_if(targets_, [&](const auto& item) {
    return item.first.model == spec.model;
  });
  metrics_->loaded_models->Set(static_cast<double>(targets_.size()));
  return absl::OkStatus();
}

std::vector<std::shared_ptr<ServedTarget>> ModelManager::List() const {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<ServedTarget>> list;
  list.reserve(targets_.size());
  for (const auto& [spec, entry] : targets_) list.push_back(entry.target);
  return list;
}

void ModelManager::Forget(const TargetSpec& spec) {
  MutexLock lock(&mutex_);
  targets_.erase(spec);
  metrics_->loaded_models->Set(static_cast<double>(targets_.size()));
}

bool ModelManager::RegistryIsDown() const {
  MutexLock lock(&mutex_);
  return clock_->MonotonicMicros() < registry_down_until_micros_;
}

void ModelManager::NoteRegistryStatus(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (absl::IsUnavailable(status)) {
    metrics_->registry_errors->Increment();
    registry_down_until_micros_ =
        clock_->MonotonicMicros() + kRegistryBackoffMicros;
  } else {
    registry_down_until_micros_ = 0;
  }
}

}  // namespace sinklora::inference
