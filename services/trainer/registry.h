// Models and adapters by name: durable rows in the Store, files by content
// address in the ArtifactStore, every row in memory.
//
// Immutable: a name keeps its content until it is deleted. Names with equal
// content share one directory. Nothing is registered by halves: files are
// validated in staging, committed, and then named in one write batch; when
// that write fails the files go again.
//
// Thread-safe; blocks on the disk. Borrows everything in Options.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_REGISTRY_H_
#define SINKLORA_SERVICES_TRAINER_REGISTRY_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/store/request_log.h"
#include "common/store/store.h"
#include "services/trainer/artifact_store.h"
#include "services/trainer/metrics.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::trainer {

class Registry {
 public:
  struct Options {
    Store* store = nullptr;
    const ArtifactStore* artifacts = nullptr;
    Clock* clock = nullptr;
    TrainerMetrics* metrics = nullptr;
  };
  // Loads all rows.
  static absl::StatusOr<std::unique_ptr<Registry>> Create(
      const Options& options);

  // Keeps an output name for what a job is going to register: imports under it
  // are refused until it is released. kAlreadyExists (reason NAME_TAKEN or
  // NAME_RESERVED) when something has it, or another job. Not durable: the
  // owner of the jobs reserves again after a restart.
  absl::Status ReserveAdapterName(const std::string& name,
                                  const std::string& job);
  absl::Status ReserveModelName(const std::string& name,
                                const std::string& job);
  // Nothing happens when `job` has not reserved `name`.
  void ReleaseAdapterName(const std::string& name, const std::string& job);
  void ReleaseModelName(const std::string& name, const std::string& job);

  // Uploads that lie in `staged_dir`; the context of the header is written into
  // them. The same request_id, or the same name and content, returns what is
  // stored. kAlreadyExists for a name that holds
  // other content or is reserved, kNotFound for an unknown base model.
  absl::StatusOr<registry::v1::Model> ImportModel(
      const registry::v1::ImportModelHeader& header,
      const std::string& staged_dir, const FileInfos& files,
      const registry::v1::Lineage& lineage = {});
  absl::StatusOr<registry::v1::Adapter> ImportAdapter(
      const registry::v1::ImportAdapterHeader& header,
      const std::string& staged_dir, FileInfos files);

  // Results of a job: registers `model` or `adapter` (as CheckModel and
  // CheckAdapter describe them, with name and sources set), whose files lie in
  // `staged_dir`, in one write with `batch`.
  absl::StatusOr<registry::v1::Model> CommitModel(registry::v1::Model model,
                                                  const std::string& staged_dir,
                                                  WriteBatch batch);
  absl::StatusOr<registry::v1::Adapter> CommitAdapter(
      registry::v1::Adapter adapter, const std::string& staged_dir,
      WriteBatch batch);

  // The model that this request, or another one for the same adapter and name,
  // registered before. kAlreadyExists (NAME_TAKEN, NAME_RESERVED) when the name
  // holds anything else or is reserved.
  absl::StatusOr<std::optional<registry::v1::Model>> FindMerged(
      const registry::v1::MergeAdapterRequest& request,
      const registry::v1::Adapter& adapter);
  // Registers `model`, whose lineage is complete. Errors as FindMerged.
  absl::StatusOr<registry::v1::Model> CommitMerged(
      const registry::v1::MergeAdapterRequest& request,
      registry::v1::Model model, const std::string& staged_dir);

  absl::StatusOr<registry::v1::Model> GetModel(const std::string& name);
  absl::StatusOr<registry::v1::Adapter> GetAdapter(const std::string& name);
  absl::StatusOr<registry::v1::ListModelsResponse> ListModels(
      const registry::v1::ListModelsRequest& request);
  absl::StatusOr<registry::v1::ListAdaptersResponse> ListAdapters(
      const registry::v1::ListAdaptersRequest& request);

  // kFailedPrecondition (reason MODEL_IN_USE) while an adapter is based on it.
  // `trash` gets its files: the caller may hold a lock.
  absl::Status DeleteModel(const registry::v1::DeleteModelRequest& request,
                           Trash* trash);
  absl::Status DeleteAdapter(const registry::v1::DeleteAdapterRequest& request);

  // Directories that rows refer to.
  std::set<std::string> ReferencedDirs();

 private:
  explicit Registry(const Options& options)
      : options_(options), requests_(options.store, options.clock) {}
  absl::Status Load();

  // The two kinds differ in their message and folder alone.
  template <typename Artefact>
  struct Kind;
  template <typename Artefact>
  absl::Status Reserve(const std::string& name, const std::string& job);
  template <typename Artefact>
  void Release(const std::string& name, const std::string& job);
  template <typename Artefact>
  absl::Status CheckNotReserved(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Artefact>
  absl::StatusOr<Artefact> Get(const std::string& name);
  template <typename Artefact>
  absl::StatusOr<std::vector<Artefact>> Page(int page_size,
                                             const std::string& page_token,
                                             std::string* next_page_token);
  // The stored artefact when (request_id) or (name, digest) is known.
  template <typename Artefact>
  absl::StatusOr<std::optional<Artefact>> FindImported(
      const std::string& request_id, const std::string& fingerprint,
      const std::string& name, const std::string& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Artefact, typename Check>
  absl::StatusOr<Artefact> Import(const std::string& name,
                                  const std::string& base_model,
                                  const std::string& request_id,
                                  const std::string& staged_dir,
                                  const FileInfos& files, const Check& check);
  template <typename Artefact>
  absl::StatusOr<Artefact> Commit(Artefact artefact,
                                  const std::string& staged_dir,
                                  WriteBatch batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::optional<registry::v1::Model>> FindMergedLocked(
      const registry::v1::MergeAdapterRequest& request,
      const std::string& adapter_digest, const std::string& base_digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Artefact>
  absl::StatusOr<Artefact> CommitResult(Artefact artefact,
                                        const std::string& staged_dir,
                                        WriteBatch batch);
  template <typename Artefact>
  absl::Status Delete(const std::string& name, const std::string& request_id,
                      Trash* trash);
  template <typename Artefact>
  void TakeDirUnlessShared(const std::string& digest, Trash* trash)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNotBase(const std::string& model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateGauges() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  RequestLog requests_;
  Mutex mutex_;
  std::map<std::string, registry::v1::Model> models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, registry::v1::Adapter> adapters_
      ABSL_GUARDED_BY(mutex_);
  // Name to the job that reserved it.
  std::map<std::string, std::string> reserved_models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> reserved_adapters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_REGISTRY_H_
