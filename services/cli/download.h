// Receives files into a directory that appears whole or not at all, with a
// progress line.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_DOWNLOAD_H_
#define SINKLORA_SERVICES_CLI_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rpc/file_fetch.h"
#include "services/cli/session.h"

namespace sinklora::cli {

struct Downloaded {
  int64_t file_count = 0;
  int64_t total_bytes = 0;
};

using OnChunk = std::function<absl::Status(const common::v1::FileChunk&)>;

// Calls `stream`, which gives every chunk to the function it gets.
// kAlreadyExists when `directory` exists. `expected_bytes` 0: not known.
absl::StatusOr<Downloaded> Download(
    Session* session, const std::string& directory, int64_t expected_bytes,
    const std::function<absl::Status(const OnChunk&)>& stream);

// Fetches `files` (see common/rpc/file_fetch.h), whose content address is
// `digest`. kAlreadyExists when `directory` exists. When the way to the server
// is lost, what has arrived stays beside `directory`, and the next call for the
// same files goes on from there; a note says so.
absl::StatusOr<Downloaded> FetchDirectory(
    Session* session, const std::string& directory, const std::string& digest,
    const std::vector<common::v1::FileInfo>& files, const FetchCall& call);

// Says on stdout what arrived, as text or JSON.
void PrintDownloaded(Session* session, const std::string& directory,
                     const Downloaded& downloaded);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_DOWNLOAD_H_
