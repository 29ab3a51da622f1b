// Files of a model directory that came from elsewhere. Such a directory may
// hold symbolic links; they are followed only as long as they stay in it, so
// that importing or copying a model never picks up another file of the machine.
// One layout is known beyond that: a snapshot of Hugging Face's cache,
// models--X/snapshots/REVISION, links to models--X/blobs.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_MODEL_DIRECTORY_H_
#define SINKLORA_COMMON_WEIGHTS_MODEL_DIRECTORY_H_

#include <string>

#include "absl/status/statusor.h"

namespace sinklora {

// directory/name, a regular file once its links are followed. kNotFound when
// there is nothing; kInvalidArgument for a `name` that is not a safe relative
// path, a link out of the directory (naming link and target), a link to nothing
// and for what is no regular file.
absl::StatusOr<std::string> ResolveModelFile(const std::string& directory,
                                             const std::string& name);

// Content of a configuration, index or tokenizer file, by the same rules; at
// most 256 MiB.
absl::StatusOr<std::string> ReadModelFile(const std::string& directory,
                                          const std::string& name);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_MODEL_DIRECTORY_H_
