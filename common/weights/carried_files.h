// What a model directory has beside weights and config.json: tokenizer, chat
// template, generation defaults. A model made from another one takes them
// along.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_WEIGHTS_CARRIED_FILES_H_
#define SINKLORA_COMMON_WEIGHTS_CARRIED_FILES_H_

#include <string>

#include "absl/status/status.h"

namespace sinklora {

// Copies those of them that `from` has into the existing directory `to`. Links
// by the rules of ResolveModelFile: one out of `from` is an error.
absl::Status CopyCarriedFiles(const std::string& from, const std::string& to);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_WEIGHTS_CARRIED_FILES_H_
