// Resource names and random identifiers.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_BASE_IDS_H_
#define SINKLORA_COMMON_BASE_IDS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sinklora {

// OK when `id` matches ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$, else kInvalidArgument
// naming `field` and the value. The pattern is also what keeps names from being
// used as paths out of the data directory.
absl::Status ValidateId(std::string_view field, std::string_view id);
// prefix + "-" + 12 random characters of [a-z0-9]. Unique for all practical
// purposes.
std::string NewId(std::string_view prefix);
// Random UUID (version 4) in the usual 36 characters: a request_id.
std::string NewRequestId();

}  // namespace sinklora

#endif  // SINKLORA_COMMON_BASE_IDS_H_
