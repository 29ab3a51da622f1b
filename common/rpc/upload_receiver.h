// The receiving side of every upload: sets room aside for what the header
// announces, receives the files, and knows whether all of them came.
//
// The end of a client stream says nothing: it looks the same whether the client
// is done or dead. So the header of an upload says how much is going to come,
// and only that much is a whole one.
//
// Not thread-safe. Borrows the disk.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_UPLOAD_RECEIVER_H_
#define SINKLORA_COMMON_RPC_UPLOAD_RECEIVER_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/disk_budget.h"
#include "common/rpc/file_transfer.h"
#include "sinklora/common/v1/file_chunk.pb.h"

namespace sinklora {

class UploadReceiver {
 public:
  // `root`: an empty directory on `disk`. kInvalidArgument for an announcement
  // that is missing (no files) or out of range, kResourceExhausted for one over
  // `max_total_bytes` or over what the disk has room for.
  static absl::StatusOr<std::unique_ptr<UploadReceiver>> Create(
      const std::string& root, const common::v1::TransferSize& announced,
      DiskBudget* disk,
      int64_t max_total_bytes = std::numeric_limits<int64_t>::max());

  // As FileReceiver::Accept; more bytes than announced are kResourceExhausted.
  absl::Status Accept(const common::v1::FileChunk& chunk);
  // kDataLoss (reason TRANSFER_INCOMPLETE) unless exactly what was announced is
  // there.
  absl::Status Finish();
  const std::vector<FileReceiver::Received>& received() const {
    return files_.received();
  }

 private:
  UploadReceiver(const std::string& root,
                 const common::v1::TransferSize& announced,
                 std::unique_ptr<DiskBudget::Reservation> room)
      : announced_(announced),
        room_(std::move(room)),
        files_(root, announced.total_bytes()) {}

  const common::v1::TransferSize announced_;
  const std::unique_ptr<DiskBudget::Reservation> room_;
  FileReceiver files_;
};

// The announcement of an upload of `files`, relative to `root`.
absl::StatusOr<common::v1::TransferSize> MeasureFiles(
    const std::string& root, const std::vector<std::string>& files);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_UPLOAD_RECEIVER_H_
