// RegistryService as plain functions. Thread-safe. Errors are those of the
// service, or kUnavailable and kDeadlineExceeded of the way there.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_REGISTRY_CLIENT_H_
#define SINKLORA_SERVICES_CLI_REGISTRY_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/interrupt.h"
#include "services/cli/upload_files.h"
#include "sinklora/registry/v1/registry_service.pb.h"

namespace sinklora::cli {

// An export on its way. Not thread-safe; cancelled when it goes away early.
class ExportStream {
 public:
  virtual ~ExportStream() = default;
  virtual const registry::v1::ExportSummary& summary() const = 0;
  // Hands all chunks to `on_chunk`. Once.
  virtual absl::Status Read(
      const std::function<absl::Status(const common::v1::FileChunk&)>&
          on_chunk) = 0;
};

class RegistryClient {
 public:
  using OnBytes = std::function<void(int64_t)>;
  using OnChunk = std::function<absl::Status(const common::v1::FileChunk&)>;

  // Connects at the first call. Borrows `interrupt`.
  static std::unique_ptr<RegistryClient> Create(const std::string& address,
                                                Interrupt* interrupt);
  virtual ~RegistryClient() = default;

  // `on_bytes` gets the size of every chunk that was sent.
  virtual absl::StatusOr<registry::v1::Model> ImportModel(
      const registry::v1::ImportModelHeader& header, const Upload& upload,
      const OnBytes& on_bytes) = 0;
  virtual absl::StatusOr<registry::v1::Adapter> ImportAdapter(
      const registry::v1::ImportAdapterHeader& header, const Upload& upload,
      const OnBytes& on_bytes) = 0;
  virtual absl::StatusOr<registry::v1::Model> GetModel(
      const std::string& name) = 0;
  virtual absl::StatusOr<registry::v1::Adapter> GetAdapter(
      const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<registry::v1::Model>> ListModels() = 0;
  virtual absl::StatusOr<std::vector<registry::v1::Adapter>> ListAdapters() = 0;
  // The server copies the files itself: `path` is one of its disk.
  virtual absl::StatusOr<registry::v1::Model> ImportModelFromPath(
      const registry::v1::ImportModelFromPathRequest& request) = 0;
  virtual absl::StatusOr<registry::v1::Adapter> ImportAdapterFromPath(
      const registry::v1::ImportAdapterFromPathRequest& request) = 0;
  // One call for `wanted` files of the model as it was when it was asked for.
  virtual absl::Status DownloadModel(
      const registry::v1::Model& model,
      const std::vector<common::v1::FileOffset>& wanted,
      const OnChunk& on_chunk) = 0;
  virtual absl::Status DownloadAdapter(
      const registry::v1::Adapter& adapter,
      const std::vector<common::v1::FileOffset>& wanted,
      const OnChunk& on_chunk) = 0;
  // The server makes the export before this returns.
  virtual absl::StatusOr<std::unique_ptr<ExportStream>> Export(
      const registry::v1::ExportRequest& request) = 0;
  virtual absl::StatusOr<registry::v1::Model> MergeAdapter(
      const registry::v1::MergeAdapterRequest& request) = 0;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_REGISTRY_CLIENT_H_
