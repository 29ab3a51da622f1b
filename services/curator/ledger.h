// What became of each input record, and why.
//
// ledger.jsonl has one JSON object a line, in order of the recipe's sources and
// of the records in them: source, file, index (in the file), content_sha256,
// text_bytes, outcome ("kept" or "rejected"). Kept ones have split ("train" or
// "validation") and tokens (in the examples); rejected ones have reason, and
// duplicates duplicate_of {source, file, index}. dropped_tokens is there when
// not 0: tokens cut off at the context or in a last example that was too short.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_LEDGER_H_
#define SINKLORA_SERVICES_CURATOR_LEDGER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/curator/reject_reason.h"
#include "services/curator/types.h"

namespace sinklora::curator {

struct LedgerEntry {
  int32_t source = 0;  // position in the recipe
  int64_t record = 0;  // position in the source
  std::string file;
  int64_t index = 0;  // of the record in `file`
  std::string content_sha256;
  int64_t text_bytes = 0;
  RejectReason reason = RejectReason::kNone;
  int64_t duplicate_of = -1;  // position in the ledger
  Split split = Split::kTrain;
  int64_t tokens = 0;
  int64_t dropped_tokens = 0;
  bool kept() const { return reason == RejectReason::kNone; }
};

const char* SplitName(Split split);

// Writes ledger.jsonl at `path`; its size and SHA-256 come back, path empty.
absl::StatusOr<StoredFile> WriteLedger(const std::string& path,
                                       const std::vector<std::string>& sources,
                                       const std::vector<LedgerEntry>& entries);

// The record counts of the ledger; those of examples stay 0.
Counts CountRecords(const std::vector<LedgerEntry>& entries);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_LEDGER_H_
