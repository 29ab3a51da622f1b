// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/registry.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/weights/adapter_export.h"
#include "services/trainer/artifact_checks.h"
#include "services/trainer/rows.h"

namespace sinklora::trainer {

using registry::v1::Adapter;
using registry::v1::Model;

namespace {

constexpr char kMergeAdapter[] = "MergeAdapter";

template <typename K>
absl::Status NotFound(const std::string& name) {
  return MakeError(absl::StatusCode::kNotFound,
                   fmt::format("{} {} is not in the registry", K::kNoun, name),
                   {K::kUnknown, {{"name", name}}});
}

absl::Status NameTaken(const char* noun, const std::string& name,
                       const std::string& stored_digest,
                       const std::string& digest) {
  return MakeError(absl::StatusCode::kAlreadyExists,
                   fmt::format("{} {} holds other content (digest {}, not {})",
                               noun, name, stored_digest, digest),
                   {"NAME_TAKEN", {{"name", name}, {"digest", stored_digest}}});
}

}  // namespace

template <>
struct Registry::Kind<Model> {
  static constexpr char kNoun[] = "model";
  static constexpr char kRows[] = "model/";
  static constexpr char kImport[] = "ImportModel";
  static constexpr char kDelete[] = "DeleteModel";
  static constexpr char kUnknown[] = "MODEL_NOT_FOUND";
  static auto& Map(Registry* r) { return r->models_; }
  static auto& Reserved(Registry* r) { return r->reserved_models_; }
  static std::string Dir(const ArtifactStore& a, const std::string& digest) {
    return a.ModelDir(digest);
  }
};

template <>
struct Registry::Kind<Adapter> {
  static constexpr char kNoun[] = "adapter";
  static constexpr char kRows[] = "adapter/";
  static constexpr char kImport[] = "ImportAdapter";
  static constexpr char kDelete[] = "DeleteAdapter";
  static constexpr char kUnknown[] = "ADAPTER_NOT_FOUND";
  static auto& Map(Registry* r) { return r->adapters_; }
  static auto& Reserved(Registry* r) { return r->reserved_adapters_; }
  static std::string Dir(const ArtifactStore& a, const std::string& digest) {
    return a.AdapterDir(digest);
  }
};

absl::StatusOr<std::unique_ptr<Registry>> Registry::Create(
    const Options& options) {
  std::unique_ptr<Registry> registry(new Registry(options));
  SL_RETURN_IF_ERROR(registry->Load());
  return registry;
}

absl::Status Registry::Load() {
  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(const auto models,
                      ScanAll(options_.store, Kind<Model>::kRows));
  for (const auto& [key, bytes] : models) {
    SL_ASSIGN_OR_RETURN(auto model, ParseRow<Model>(key, bytes));
    models_[model.name()] = std::move(model);
  }
  SL_ASSIGN_OR_RETURN(const auto adapters,
                      ScanAll(options_.store, Kind<Adapter>::kRows));
  for (const auto& [key, bytes] : adapters) {
    SL_ASSIGN_OR_RETURN(auto adapter, ParseRow<Adapter>(key, bytes));
    adapters_[adapter.name()] = std::move(adapter);
  }
  UpdateGauges();
  return absl::OkStatus();
}

template <typename Artefact>
absl::Status Registry::CheckNotReserved(const std::string& name) {
  using K = Kind<Artefact>;
  const auto it = K::Reserved(this).find(name);
  if (it == K::Reserved(this).end()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kAlreadyExists,
                   fmt::format("{} name {} is reserved for the result of job "
                               "{}, which has not ended",
                               K::kNoun, name, it->second),
                   {"NAME_RESERVED", {{"name", name}, {"job", it->second}}});
}

template <typename Artefact>
absl::Status Registry::Reserve(const std::string& name,
                               const std::string& job) {
  using K = Kind<Artefact>;
  MutexLock lock(&mutex_);
  const auto it = K::Map(this).find(name);
  if (it != K::Map(this).end()) {
    return MakeError(
        absl::StatusCode::kAlreadyExists,
        fmt::format("{} {} exists", K::kNoun, name),
        {"NAME_TAKEN", {{"name", name}, {"digest", it->second.digest()}}});
  }
  SL_RETURN_IF_ERROR(CheckNotReserved<Artefact>(name));
  K::Reserved(this)[name] = job;
  return absl::OkStatus();
}

template <typename Artefact>
void Registry::Release(const std::string& name, const std::string& job) {
  MutexLock lock(&mutex_);
  auto& reserved = Kind<Artefact>::Reserved(this);
  const auto it = reserved.find(name);
  if (it != reserved.end() && it->second == job) reserved.erase(it);
}

absl::Status Registry::ReserveAdapterName(const std::string& name,
                                          const std::string& job) {
  return Reserve<Adapter>(name, job);
}

absl::Status Registry::ReserveModelName(const std::string& name,
                                        const std::string& job) {
  return Reserve<Model>(name, job);
}

void Registry::ReleaseAdapterName(const std::string& name,
                                  const std::string& job) {
  Release<Adapter>(name, job);
}

void Registry::ReleaseModelName(const std::string& name,
                                const std::string& job) {
  Release<Model>(name, job);
}

template <typename Artefact>
absl::StatusOr<std::optional<Artefact>> Registry::FindImported(
    const std::string& request_id, const std::string& fingerprint,
    const std::string& name, const std::string& digest) {
  using K = Kind<Artefact>;
  SL_ASSIGN_OR_RETURN(const auto seen,
                      requests_.Find(K::kImport, request_id, fingerprint));
  if (seen) {
    SL_ASSIGN_OR_RETURN(auto stored, ParseRow<Artefact>(request_id, *seen));
    return std::optional<Artefact>(std::move(stored));
  }
  const auto it = K::Map(this).find(name);
  if (it == K::Map(this).end()) {
    SL_RETURN_IF_ERROR(CheckNotReserved<Artefact>(name));
    return std::optional<Artefact>();
  }
  if (it->second.digest() == digest) return std::optional(it->second);
  return NameTaken(K::kNoun, name, it->second.digest(), digest);
}

template <typename Artefact, typename Check>
absl::StatusOr<Artefact> Registry::Import(const std::string& name,
                                          const std::string& base_model,
                                          const std::string& request_id,
                                          const std::string& staged_dir,
                                          const FileInfos& files,
                                          const Check& check) {
  SL_RETURN_IF_ERROR(ValidateId("header.name", name));
  const std::string digest = ContentDigest(files);
  const std::string fingerprint =
      Sha256Hex(name + "\n" + base_model + "\n" + digest);
  {
    MutexLock lock(&mutex_);
    SL_ASSIGN_OR_RETURN(
        auto stored,
        FindImported<Artefact>(request_id, fingerprint, name, digest));
    if (stored) return *std::move(stored);
  }
  // Outside the lock: reading all weights takes a while.
  SL_ASSIGN_OR_RETURN(Artefact artefact, check());
  artefact.set_name(name);
  artefact.mutable_create_time()->CopyFrom(
      ToTimestamp(options_.clock->WallMicros()));

  MutexLock lock(&mutex_);
  SL_ASSIGN_OR_RETURN(auto stored, FindImported<Artefact>(
                                       request_id, fingerprint, name, digest));
  if (stored) return *std::move(stored);
  WriteBatch batch;
  requests_.Record(Kind<Artefact>::kImport, request_id, fingerprint,
                   artefact.SerializeAsString(), &batch);
  return Commit(std::move(artefact), staged_dir, std::move(batch));
}

absl::StatusOr<Model> Registry::ImportModel(
    const registry::v1::ImportModelHeader& header,
    const std::string& staged_dir, const FileInfos& files,
    const registry::v1::Lineage& lineage) {
  return Import<Model>(header.name(), "", header.request_id(), staged_dir,
                       files, [&]() -> absl::StatusOr<Model> {
                         SL_ASSIGN_OR_RETURN(Model model,
                                             CheckModel(staged_dir, files));
                         *model.mutable_lineage() = lineage;
                         return model;
                       });
}

absl::StatusOr<Adapter> Registry::ImportAdapter(
    const registry::v1::ImportAdapterHeader& header,
    const std::string& staged_dir, FileInfos files) {
  if (header.has_context()) {
    // Before anything is hashed: the context is part of the content.
    SL_ASSIGN_OR_RETURN(const Model base, GetModel(header.base_model()));
    SL_RETURN_IF_ERROR(ApplyContext(header.context(),
                                    options_.artifacts->ModelDir(base.digest()),
                                    staged_dir, &files));
  }
  return Import<Adapter>(
      header.name(), header.base_model(), header.request_id(), staged_dir,
      files, [&]() -> absl::StatusOr<Adapter> {
        SL_ASSIGN_OR_RETURN(const Model base, GetModel(header.base_model()));
        SL_ASSIGN_OR_RETURN(
            Adapter adapter,
            CheckAdapter(staged_dir, files,
                         options_.artifacts->ModelDir(base.digest())));
        adapter.set_base_model(base.name());
        adapter.set_base_model_digest(base.digest());
        return adapter;
      });
}

template <typename Artefact>
absl::StatusOr<Artefact> Registry::Commit(Artefact artefact,
                                          const std::string& staged_dir,
                                          WriteBatch batch) {
  using K = Kind<Artefact>;
  if constexpr (std::is_same_v<Artefact, Adapter>) {
    // The base may have gone, or been replaced, since the files were checked.
    const auto base = models_.find(artefact.base_model());
    if (base == models_.end() ||
        base->second.digest() != artefact.base_model_digest()) {
      return MakeError(
          absl::StatusCode::kFailedPrecondition,
          fmt::format("base model {} with digest {} is not in the registry",
                      artefact.base_model(), artefact.base_model_digest()),
          {"BASE_MODEL_GONE", {{"model", artefact.base_model()}}});
    }
  }
  SL_ASSIGN_OR_RETURN(
      const bool placed,
      options_.artifacts->CommitContent(
          staged_dir, K::Dir(*options_.artifacts, artefact.digest())));
  batch.Put(K::kRows + artefact.name(), artefact.SerializeAsString());
  const absl::Status written = options_.store->Write(batch);
  if (!written.ok()) {
    Trash trash(options_.artifacts);
    if (placed) TakeDirUnlessShared<Artefact>(artefact.digest(), &trash);
    return written;
  }
  K::Map(this)[artefact.name()] = artefact;
  UpdateGauges();
  LogInfo("registered {} {} ({})", K::kNoun, artefact.name(),
          artefact.digest());
  return artefact;
}

template <typename Artefact>
absl::StatusOr<Artefact> Registry::CommitResult(Artefact artefact,
                                                const std::string& staged_dir,
                                                WriteBatch batch) {
  using K = Kind<Artefact>;
  MutexLock lock(&mutex_);
  const auto it = K::Map(this).find(artefact.name());
  if (it != K::Map(this).end() && it->second.digest() != artefact.digest()) {
    return NameTaken(K::kNoun, artefact.name(), it->second.digest(),
                     artefact.digest());
  }
  return Commit(std::move(artefact), staged_dir, std::move(batch));
}

absl::StatusOr<Model> Registry::CommitModel(Model model,
                                            const std::string& staged_dir,
                                            WriteBatch batch) {
  return CommitResult(std::move(model), staged_dir, std::move(batch));
}

absl::StatusOr<Adapter> Registry::CommitAdapter(Adapter adapter,
                                                const std::string& staged_dir,
                                                WriteBatch batch) {
  return CommitResult(std::move(adapter), staged_dir, std::move(batch));
}

template <typename Artefact>
absl::StatusOr<Artefact> Registry::Get(const std::string& name) {
  using K = Kind<Artefact>;
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  MutexLock lock(&mutex_);
  const auto it = K::Map(this).find(name);
  if (it != K::Map(this).end()) return it->second;
  return NotFound<K>(name);
}

absl::StatusOr<Model> Registry::GetModel(const std::string& name) {
  return Get<Model>(name);
}

absl::StatusOr<Adapter> Registry::GetAdapter(const std::string& name) {
  return Get<Adapter>(name);
}

template <typename Artefact>
absl::StatusOr<std::vector<Artefact>> Registry::Page(
    int page_size, const std::string& page_token,
    std::string* next_page_token) {
  SL_ASSIGN_OR_RETURN(const int limit, PageSize(page_size));
  if (!page_token.empty()) {
    SL_RETURN_IF_ERROR(ValidateId("page_token", page_token));
  }
  std::vector<Artefact> page;
  MutexLock lock(&mutex_);
  const auto& map = Kind<Artefact>::Map(this);
  // The token is the last name of the page before.
  for (auto it = map.upper_bound(page_token); it != map.end(); ++it) {
    if (static_cast<int>(page.size()) == limit) {
      *next_page_token = page.back().name();
      break;
    }
    page.push_back(it->second);
  }
  return page;
}

absl::StatusOr<registry::v1::ListModelsResponse> Registry::ListModels(
    const registry::v1::ListModelsRequest& request) {
  registry::v1::ListModelsResponse response;
  SL_ASSIGN_OR_RETURN(auto page,
                      Page<Model>(request.page_size(), request.page_token(),
                                  response.mutable_next_page_token()));
  response.mutable_models()->Assign(page.begin(), page.end());
  return response;
}

absl::StatusOr<registry::v1::ListAdaptersResponse> Registry::ListAdapters(
    const registry::v1::ListAdaptersRequest& request) {
  registry::v1::ListAdaptersResponse response;
  SL_ASSIGN_OR_RETURN(auto page,
                      Page<Adapter>(request.page_size(), request.page_token(),
                                    response.mutable_next_page_token()));
  response.mutable_adapters()->Assign(page.begin(), page.end());
  return response;
}

absl::Status Registry::CheckNotBase(const std::string& model) {
  for (const auto& [name, adapter] : adapters_) {
    if (adapter.base_model() != model) continue;
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     fmt::format("model {} is the base of adapter {}; delete "
                                 "the adapter first",
                                 model, name),
                     {"MODEL_IN_USE", {{"model", model}, {"adapter", name}}});
  }
  return absl::OkStatus();
}

template <typename Artefact>
absl::Status Registry::Delete(const std::string& name,
                              const std::string& request_id, Trash* trash) {
  using K = Kind<Artefact>;
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  MutexLock lock(&mutex_);
  const std::string fingerprint = Sha256Hex(name);
  SL_ASSIGN_OR_RETURN(const auto seen,
                      requests_.Find(K::kDelete, request_id, fingerprint));
  if (seen) return absl::OkStatus();
  const auto it = K::Map(this).find(name);
  if (it == K::Map(this).end()) {
    return NotFound<K>(name);
  }
  if constexpr (std::is_same_v<Artefact, Model>) {
    SL_RETURN_IF_ERROR(CheckNotBase(name));
  }
  WriteBatch batch;
  batch.Delete(K::kRows + name);
  requests_.Record(K::kDelete, request_id, fingerprint, "", &batch);
  SL_RETURN_IF_ERROR(options_.store->Write(batch));
  const std::string digest = it->second.digest();
  K::Map(this).erase(it);
  TakeDirUnlessShared<Artefact>(digest, trash);
  UpdateGauges();
  LogInfo("deleted {} {}", K::kNoun, name);
  return absl::OkStatus();
}

absl::Status Registry::DeleteModel(
    const registry::v1::DeleteModelRequest& request, Trash* trash) {
  return Delete<Model>(request.name(), request.request_id(), trash);
}

absl::Status Registry::DeleteAdapter(
    const registry::v1::DeleteAdapterRequest& request) {
  Trash trash(options_.artifacts);
  return Delete<Adapter>(request.name(), request.request_id(), &trash);
}

template <typename Artefact>
void Registry::TakeDirUnlessShared(const std::string& digest, Trash* trash) {
  for (const auto& [name, artefact] : Kind<Artefact>::Map(this)) {
    if (artefact.digest() == digest) return;
  }
  trash->Take(Kind<Artefact>::Dir(*options_.artifacts, digest));
}

absl::StatusOr<std::optional<Model>> Registry::FindMergedLocked(
    const registry::v1::MergeAdapterRequest& request,
    const std::string& adapter_digest, const std::string& base_digest) {
  SL_ASSIGN_OR_RETURN(const auto seen,
                      requests_.Find(kMergeAdapter, request.request_id(),
                                     Fingerprint(request)));
  if (seen) {
    SL_ASSIGN_OR_RETURN(auto stored,
                        ParseRow<Model>(request.request_id(), *seen));
    return std::optional<Model>(std::move(stored));
  }
  const auto it = models_.find(request.model_name());
  if (it == models_.end()) {
    SL_RETURN_IF_ERROR(CheckNotReserved<Model>(request.model_name()));
    return std::optional<Model>();
  }
  const Model& model = it->second;
  if (model.lineage().adapter_digest() == adapter_digest &&
      model.base_model_digest() == base_digest) {
    return std::optional<Model>(model);
  }
  return MakeError(
      absl::StatusCode::kAlreadyExists,
      fmt::format("model {} holds other content (digest {}) than adapter {} "
                  "merged into its base",
                  model.name(), model.digest(), request.adapter()),
      {"NAME_TAKEN", {{"name", model.name()}, {"digest", model.digest()}}});
}

absl::StatusOr<std::optional<Model>> Registry::FindMerged(
    const registry::v1::MergeAdapterRequest& request, const Adapter& adapter) {
  MutexLock lock(&mutex_);
  return FindMergedLocked(request, adapter.digest(),
                          adapter.base_model_digest());
}

absl::StatusOr<Model> Registry::CommitMerged(
    const registry::v1::MergeAdapterRequest& request, Model model,
    const std::string& staged_dir) {
  MutexLock lock(&mutex_);
  // Somebody may have taken the name since it was looked up.
  SL_ASSIGN_OR_RETURN(
      auto stored, FindMergedLocked(request, model.lineage().adapter_digest(),
                                    model.base_model_digest()));
  if (stored) return *std::move(stored);
  WriteBatch batch;
  requests_.Record(kMergeAdapter, request.request_id(), Fingerprint(request),
                   model.SerializeAsString(), &batch);
  return Commit(std::move(model), staged_dir, std::move(batch));
}

std::set<std::string> Registry::ReferencedDirs() {
  MutexLock lock(&mutex_);
  std::set<std::string> dirs;
  for (const auto& [name, model] : models_) {
    dirs.insert(options_.artifacts->ModelDir(model.digest()));
  }
  for (const auto& [name, adapter] : adapters_) {
    dirs.insert(options_.artifacts->AdapterDir(adapter.digest()));
  }
  return dirs;
}

void Registry::UpdateGauges() {
  options_.metrics->SetModels(static_cast<int64_t>(models_.size()));
  options_.metrics->SetAdapters(static_cast<int64_t>(adapters_.size()));
}

}  // namespace sinklora::trainer
