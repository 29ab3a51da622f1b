// One normalised input record, its content hash, and its line in a source's
// records.jsonl.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_RECORD_H_
#define SINKLORA_SERVICES_CURATOR_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// A document (format kPlainText: `text`) or an instruction record (format
// kInstruction: the other three). All strings are valid UTF-8 with LF line
// ends.
struct Record {
  SourceFormat format = SourceFormat::kPlainText;
  std::string file;   // it came from
  int64_t index = 0;  // of the record in that file, from 0
  std::string text;
  std::string instruction;
  std::string input;
  std::string output;
};

// SHA-256 of the content alone, wherever it came from: of the text, or of the
// JSON list [instruction, input, output]. Duplicates are found by it.
std::string ContentSha256(const Record& record);
// Bytes of all its text.
int64_t TextBytes(const Record& record);
// True when there is nothing to train on: a document of white space, or a
// record whose prompt or answer is white space.
bool IsBlank(const Record& record);

// One line of records.jsonl, with its '\n'. REQUIRES: valid UTF-8.
std::string RecordToLine(const Record& record);
// The inverse; kDataLoss for anything that RecordToLine does not write.
absl::StatusOr<Record> RecordFromLine(std::string_view line);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_RECORD_H_
