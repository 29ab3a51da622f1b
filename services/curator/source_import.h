// Turns the bytes of one imported file into normalised records.
//
// Normalisation: the whole file must be valid UTF-8; a leading byte order mark
// is removed, CRLF and lone CR become LF (also inside the strings of records).
//
// Errors are kInvalidArgument with an ErrorDetail (reason INVALID_FILE or
// INVALID_RECORD; metadata file, and line, record, field or byte) and a message
// that names the file, the line (JSONL) or record index (JSON list), and the
// field.
//
// Thread-safe (functions only).
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_SOURCE_IMPORT_H_
#define SINKLORA_SERVICES_CURATOR_SOURCE_IMPORT_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/curator/record.h"
#include "services/curator/types.h"

namespace sinklora::curator {

// What `file` holds when the import names no format: by extension, in any case.
// .txt, .text, .md and none are plain text; .json and .jsonl are records.
absl::StatusOr<SourceFormat> FormatOfFile(const std::string& file);

// Where records go, in order of the file. An error ends the parse with it.
using RecordSink = std::function<absl::Status(Record)>;

// REQUIRES: format is kPlainText (one record, the file) or kInstruction (a JSON
// list, or one JSON object a line; blank lines are skipped; fields instruction,
// output and optional input are strings, others are ignored).
absl::Status ParseSourceFile(const std::string& file, SourceFormat format,
                             std::string_view content, const RecordSink& sink);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_SOURCE_IMPORT_H_
