// CuratorService as plain functions. Thread-safe. Errors are those of the
// service, or kUnavailable and kDeadlineExceeded of the way there.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_CURATOR_CLIENT_H_
#define SINKLORA_SERVICES_CLI_CURATOR_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/interrupt.h"
#include "services/cli/upload_files.h"
#include "sinklora/curator/v1/curator_service.pb.h"

namespace sinklora::cli {

class CuratorClient {
 public:
  // Connects at the first call. Borrows `interrupt`.
  static std::unique_ptr<CuratorClient> Create(const std::string& address,
                                               Interrupt* interrupt);
  virtual ~CuratorClient() = default;

  // `on_bytes` gets the size of every chunk that was sent.
  virtual absl::StatusOr<curator::v1::Source> ImportSource(
      const curator::v1::ImportSourceHeader& header, const Upload& upload,
      const std::function<void(int64_t)>& on_bytes) = 0;
  virtual absl::StatusOr<curator::v1::Dataset> Curate(
      const curator::v1::CurateRequest& request,
      const std::function<void(const curator::v1::CurateProgress&)>&
          on_progress) = 0;
  virtual absl::StatusOr<curator::v1::Dataset> GetDataset(
      const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<curator::v1::Dataset>> ListDatasets() = 0;
  virtual absl::Status ExportDataset(
      const std::string& name,
      const std::function<absl::Status(const common::v1::FileChunk&)>&
          on_chunk) = 0;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_CURATOR_CLIENT_H_
