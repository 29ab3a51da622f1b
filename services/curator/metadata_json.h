// JSON forms of the curator's metadata: what is kept in the store, and the
// parts of a dataset's manifest. Keys are sorted and nothing depends on time or
// threads, so equal values give equal text.
//
// Thread-safe (functions only). Parsing fails with kDataLoss naming the field:
// the text was written by this code, so anything else is corruption.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_METADATA_JSON_H_
#define SINKLORA_SERVICES_CURATOR_METADATA_JSON_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "services/curator/types.h"

namespace sinklora::curator {

nlohmann::json RecipeToJson(const Recipe& recipe);
nlohmann::json CountsToJson(const Counts& counts);

std::string SerializeSource(const SourceInfo& source);
absl::StatusOr<SourceInfo> ParseSource(std::string_view text);
std::string SerializeDataset(const DatasetInfo& dataset);
absl::StatusOr<DatasetInfo> ParseDataset(std::string_view text);

// "plain_text", "instruction"; "unspecified" for kUnspecified.
const char* FormatName(SourceFormat format);
// "packed_text", "instruction"; "unspecified" for kUnspecified.
const char* BuilderName(Builder builder);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_METADATA_JSON_H_
