// What a command prints: results on stdout as tables or, with --json, as JSON;
// remarks, progress and errors on stderr. Thread-compatible: one thread prints
// at a time.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_OUTPUT_H_
#define SINKLORA_SERVICES_CLI_OUTPUT_H_

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sinklora::cli {

using Json = nlohmann::ordered_json;

// A message as ProtoJSON: field names as in the .proto file, every field
// present, 64-bit integers as strings.
Json ToJson(const google::protobuf::Message& message);

// Rows under a header line. Columns are as wide as their widest cell; the
// numeric ones are right-aligned.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string header;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns);
  // One cell a column. Line breaks in cells become spaces.
  void AddRow(std::vector<std::string> cells);
  // `bold_header` wraps the header in terminal escapes. Ends with a line break.
  std::string Render(bool bold_header) const;

 private:
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

class Output {
 public:
  struct Options {
    std::ostream* out = nullptr;
    std::ostream* err = nullptr;
    bool out_is_terminal = false;
    bool err_is_terminal = false;
    bool allow_color = true;
  };
  explicit Output(const Options& options) : options_(options) {}

  void set_json(bool json) { json_ = json; }
  void set_no_color() { options_.allow_color = false; }
  bool json() const { return json_; }
  bool err_is_terminal() const { return options_.err_is_terminal; }
  bool out_is_terminal() const { return options_.out_is_terminal; }

  // One indented document on stdout.
  void PrintJson(const Json& document);
  // One document a line, flushed: for streams.
  void PrintJsonLine(const Json& document);
  void PrintTable(const Table& table);
  // Aligned "name  value" lines.
  void PrintFields(
      const std::vector<std::pair<std::string, std::string>>& fields);
  // Text as it is, flushed.
  void Print(const std::string& text);
  // A remark for people on stderr; nothing with --json.
  void Note(const std::string& text);
  // "error: message (REASON)" on stderr, a JSON line with --json.
  void PrintError(const absl::Status& status);

  // Replaces the last line of a terminal's stderr; used by progress displays.
  // Nothing elsewhere.
  void SetStatusLine(const std::string& line);
  // Removes that line, so that other text can be printed.
  void ClearStatusLine();

 private:
  bool err_color() const {
    return options_.allow_color && options_.err_is_terminal;
  }

  Options options_;
  bool json_ = false;
  bool has_status_line_ = false;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_OUTPUT_H_
