// SPDX-License-Identifier: Apache-2.0
#include "services/curator/ledger.h"

#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "services/curator/hashing_writer.h"

namespace sinklora::curator {
namespace {

using nlohmann::json;

json Location(const std::vector<std::string>& sources,
              const LedgerEntry& entry) {
  return {{"source", sources[static_cast<size_t>(entry.source)]},
          {"file", entry.file},
          {"index", entry.index}};
}

json ToJson(const std::vector<std::string>& sources,
            const std::vector<LedgerEntry>& entries, const LedgerEntry& entry) {
  json line = Location(sources, entry);
  line["content_sha256"] = entry.content_sha256;
  line["text_bytes"] = entry.text_bytes;
  line["outcome"] = entry.kept() ? "kept" : "rejected";
  if (entry.kept()) {
    line["split"] = SplitName(entry.split);
    line["tokens"] = entry.tokens;
  } else {
    line["reason"] = RejectReasonName(entry.reason);
  }
  if (entry.duplicate_of >= 0) {
    line["duplicate_of"] =
        Location(sources, entries[static_cast<size_t>(entry.duplicate_of)]);
  }
  if (entry.dropped_tokens > 0) line["dropped_tokens"] = entry.dropped_tokens;
  return line;
}

}  // namespace

const char* SplitName(Split split) {
  return split == Split::kTrain ? "train" : "validation";
}

absl::StatusOr<StoredFile> WriteLedger(
    const std::string& path, const std::vector<std::string>& sources,
    const std::vector<LedgerEntry>& entries) {
  SL_ASSIGN_OR_RETURN(auto writer, HashingWriter::Create(path));
  for (const LedgerEntry& entry : entries) {
    SL_RETURN_IF_ERROR(
        writer->Append(ToJson(sources, entries, entry).dump() + "\n"));
  }
  SL_ASSIGN_OR_RETURN(std::string sha256, writer->Finish());
  return StoredFile{"", writer->size_bytes(), std::move(sha256)};
}

Counts CountRecords(const std::vector<LedgerEntry>& entries) {
  Counts counts;
  for (const RejectReason reason : kRejectReasons) {
    counts.rejected_records[RejectReasonName(reason)] = 0;
  }
  counts.input_records = static_cast<int64_t>(entries.size());
  for (const LedgerEntry& entry : entries) {
    counts.dropped_tokens += entry.dropped_tokens;
    if (!entry.kept()) {
      ++counts.rejected_records[RejectReasonName(entry.reason)];
      continue;
    }
    ++counts.kept_records;
  }
  return counts;
}

}  // namespace sinklora::curator
