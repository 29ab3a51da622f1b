// SPDX-License-Identifier: Apache-2.0
#include "services/curator/source_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "common/base/status.h"
#include "common/text/json.h"
#include "common/text/utf8.h"

namespace sinklora::curator {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

// Where in the input an error is: `file "a.jsonl", line 17`.
struct Place {
  std::string file;
  const char* unit;  // "line" or "record"
  int64_t number;
  std::string Text() const {
    return fmt::format("file \"{}\", {} {}", file, unit, number);
  }
};

absl::Status RecordError(const Place& place, const std::string& field,
                         const std::string& problem) {
  std::map<std::string, std::string> metadata = {
      {"file", place.file}, {place.unit, std::to_string(place.number)}};
  if (!field.empty()) metadata["field"] = field;
  return MakeError(absl::StatusCode::kInvalidArgument,
                   fmt::format("{}: {}", place.Text(), problem),
                   {"INVALID_RECORD", std::move(metadata)});
}

absl::Status FileError(const std::string& file, const std::string& problem,
                       std::map<std::string, std::string> metadata) {
  metadata["file"] = file;
  return MakeError(absl::StatusCode::kInvalidArgument,
                   fmt::format("file \"{}\": {}", file, problem),
                   {"INVALID_FILE", std::move(metadata)});
}

absl::Status CheckUtf8(const std::string& file, std::string_view content) {
  const size_t offset = FindInvalidUtf8(content);
  if (offset == std::string_view::npos) return absl::OkStatus();
  return FileError(file,
                   fmt::format("not valid UTF-8 at byte {} (0x{:02X})", offset,
                               static_cast<unsigned char>(content[offset])),
                   {{"byte", std::to_string(offset)}});
}

// Reads string field `name` into *out; absent or null is an error if
// `required`.
absl::Status ReadField(const json& object, const char* name, bool required,
                       const Place& place, std::string* out) {
  const json* field = FindField(object, name);
  if (field == nullptr) {
    if (!required) return absl::OkStatus();
    return RecordError(
        place, name,
        fmt::format("field \"{}\" is missing, must be a string", name));
  }
  if (!field->is_string()) {
    return RecordError(place, name,
                       fmt::format("field \"{}\" is {}, must be a string", name,
                                   JsonExcerpt(*field)));
  }
  *out = NormalizeNewlines(field->get_ref<const std::string&>());
  return absl::OkStatus();
}

absl::StatusOr<Record> ToRecord(const json& value, const Place& place,
                                int64_t index) {
  if (!value.is_object()) {
    return RecordError(
        place, "",
        fmt::format("is {}, must be a JSON object", JsonExcerpt(value)));
  }
  Record record;
  record.format = SourceFormat::kInstruction;
  record.file = place.file;
  record.index = index;
  SL_RETURN_IF_ERROR(
      ReadField(value, "instruction", true, place, &record.instruction));
  SL_RETURN_IF_ERROR(ReadField(value, "input", false, place, &record.input));
  SL_RETURN_IF_ERROR(ReadField(value, "output", true, place, &record.output));
  return record;
}

// The parser's message without its exception name, and without its line number
// where the text parsed was one line of a file.
std::string ParserMessage(std::string_view what, bool one_line) {
  std::string text(what);
  if (text.starts_with('[')) text.erase(0, text.find("] ") + 2);
  constexpr std::string_view kFirstLine = "parse error at line 1, ";
  if (one_line && text.starts_with(kFirstLine)) {
    text.erase(0, kFirstLine.size());
  }
  return text;
}

absl::Status ParseLines(const std::string& file, std::string_view content,
                        const RecordSink& sink) {
  int64_t line_number = 0;
  int64_t index = 0;
  while (!content.empty()) {
    ++line_number;
    const size_t end = content.find('\n');
    const std::string_view line = content.substr(0, end);
    content.remove_prefix(end == std::string_view::npos ? content.size()
                                                        : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Place place{file, "line", line_number};
    auto value = ParseJsonObject(line, "line");
    if (!value.ok()) {
      // "line: not valid JSON: <parser's words>" or "line: expected ...".
      std::string message(value.status().message());
      message.erase(0, std::string_view("line: ").size());
      constexpr std::string_view kSyntax = "not valid JSON: ";
      if (message.starts_with(kSyntax)) {
        message = std::string(kSyntax) +
                  ParserMessage(message.substr(kSyntax.size()), true);
      }
      return RecordError(place, "", message);
    }
    SL_ASSIGN_OR_RETURN(Record record, ToRecord(*value, place, index++));
    SL_RETURN_IF_ERROR(sink(std::move(record)));
  }
  return absl::OkStatus();
}

// Takes the elements of a top-level list one by one as the parser completes
// them, so that a list of any length is never in memory as a whole.
class ListReader {
 public:
  ListReader(std::string file, const RecordSink& sink)
      : file_(std::move(file)), sink_(sink) {}

  // Callback of json::parse; false drops the parsed value.
  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth && status_.ok()) {
      status_ = RecordError(
          CurrentPlace(), "",
          fmt::format("nesting is deeper than {} levels", kMaxDepth));
    }
    const bool complete = event == json::parse_event_t::value ||
                          event == json::parse_event_t::object_end ||
                          event == json::parse_event_t::array_end;
    if (!complete || depth != 1) return true;
    if (status_.ok()) status_ = Take(parsed);
    return false;
  }
  Place CurrentPlace() const { return {file_, "record", next_index_}; }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status Take(const json& value) {
    SL_ASSIGN_OR_RETURN(Record record,
                        ToRecord(value, CurrentPlace(), next_index_));
    ++next_index_;
    return sink_(std::move(record));
  }

  const std::string file_;
  const RecordSink& sink_;
  int64_t next_index_ = 0;
  absl::Status status_;
};

absl::Status ParseList(const std::string& file, std::string_view content,
                       const RecordSink& sink) {
  ListReader reader(file, sink);
  try {
    const json rest = json::parse(
        content.begin(), content.end(),
        [&reader](int depth, json::parse_event_t event, json& parsed) {
          return reader(depth, event, parsed);
        });
  } catch (const json::exception& e) {
    SL_RETURN_IF_ERROR(reader.status());
    return RecordError(
        reader.CurrentPlace(), "",
        fmt::format("not valid JSON: {}", ParserMessage(e.what(), false)));
  }
  return reader.status();
}

absl::Status ParseInstructions(const std::string& file,
                               std::string_view content,
                               const RecordSink& sink) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (content.starts_with(kByteOrderMark)) {
    content.remove_prefix(kByteOrderMark.size());
  }
  const size_t first = content.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && content[first] == '[') {
    return ParseList(file, content, sink);
  }
  return ParseLines(file, content, sink);
}

}  // namespace

absl::StatusOr<SourceFormat> FormatOfFile(const std::string& file) {
  const size_t slash = file.rfind('/');
  const size_t dot = file.rfind('.');
  if (dot == std::string::npos || (slash != std::string::npos && dot < slash)) {
    return SourceFormat::kPlainText;
  }
  std::string extension = file.substr(dot);
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (extension == ".txt" || extension == ".text" || extension == ".md") {
    return SourceFormat::kPlainText;
  }
  if (extension == ".json" || extension == ".jsonl") {
    return SourceFormat::kInstruction;
  }
  return FileError(file,
                   fmt::format("extension \"{}\" says no format, must be one "
                               "of .txt .text .md .json .jsonl, or the import "
                               "must name the format",
                               extension),
                   {{"field", "format"}});
}

absl::Status ParseSourceFile(const std::string& file, SourceFormat format,
                             std::string_view content, const RecordSink& sink) {
  SL_RETURN_IF_ERROR(CheckUtf8(file, content));
  if (format == SourceFormat::kInstruction) {
    return ParseInstructions(file, content, sink);
  }
  Record record;
  record.file = file;
  record.text = NormalizeNewlines(content);
  return sink(std::move(record));
}

}  // namespace sinklora::curator
