// Resumable downloads: files of a known list into a directory that keeps what
// arrived, so that a download that was cut off goes on where it stopped, in
// this process or in a later one.
//
// Nothing is taken on trust: a file is there only when its size and SHA-256 are
// those of the list. Bytes of an earlier download that prove wrong are thrown
// away and fetched again.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_RPC_FILE_FETCH_H_
#define SINKLORA_COMMON_RPC_FILE_FETCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sinklora/common/v1/file_chunk.pb.h"

namespace sinklora {

using OnFileChunk =
    std::function<absl::Status(const common::v1::FileChunk& chunk)>;

// One call to the peer: asks it for `wanted`, each from its offset on, and
// hands every chunk to `on_chunk`, whose error ends the call and is returned.
using FetchCall = std::function<absl::Status(
    const std::vector<common::v1::FileOffset>& wanted,
    const OnFileChunk& on_chunk)>;

// Makes `directory` hold exactly `files`, with as many calls as it takes: a
// call that ends with kUnavailable is repeated as long as calls bring bytes.
// `directory` (made when absent) belongs to this download alone: whatever else
// is in it is removed. One call at a time per directory.
//
// Errors of `call` are returned as they are. kDataLoss naming the file when the
// peer sends other content than the list says, or ends too early;
// kInvalidArgument for a list with unsafe or repeated paths.
//
// After an error for which MayResume() (common/base/status.h) is true the
// directory is worth keeping; after any other it is not.
absl::Status FetchFiles(const std::string& directory,
                        const std::vector<common::v1::FileInfo>& files,
                        const FetchCall& call);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_RPC_FILE_FETCH_H_
