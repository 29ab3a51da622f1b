// SPDX-License-Identifier: Apache-2.0
#include "services/curator/record.h"

#include <fmt/format.h>

#include "common/base/hash.h"
#include "nlohmann/json.hpp"

namespace sinklora::curator {
namespace {

using nlohmann::json;

bool IsWhiteSpace(std::string_view text) {
  return text.find_first_not_of(" \t\n\v\f\r") == std::string_view::npos;
}

}  // namespace

std::string ContentSha256(const Record& record) {
  if (record.format == SourceFormat::kPlainText) return Sha256Hex(record.text);
  return Sha256Hex(
      json::array({record.instruction, record.input, record.output}).dump());
}

int64_t TextBytes(const Record& record) {
  return static_cast<int64_t>(record.text.size() + record.instruction.size() +
                              record.input.size() + record.output.size());
}

bool IsBlank(const Record& record) {
  if (record.format == SourceFormat::kPlainText) {
    return IsWhiteSpace(record.text);
  }
  return IsWhiteSpace(record.output) ||
         (IsWhiteSpace(record.instruction) && IsWhiteSpace(record.input));
}

std::string RecordToLine(const Record& record) {
  json value = {{"file", record.file}, {"index", record.index}};
  if (record.format == SourceFormat::kPlainText) {
    value["text"] = record.text;
  } else {
    value["instruction"] = record.instruction;
    value["input"] = record.input;
    value["output"] = record.output;
  }
  return value.dump() + "\n";
}

absl::StatusOr<Record> RecordFromLine(std::string_view line) {
  try {
    const json value = json::parse(line);
    Record record;
    record.file = value.at("file").get<std::string>();
    record.index = value.at("index").get<int64_t>();
    if (value.contains("text")) {
      record.text = value.at("text").get<std::string>();
      return record;
    }
    record.format = SourceFormat::kInstruction;
    record.instruction = value.at("instruction").get<std::string>();
    record.input = value.at("input").get<std::string>();
    record.output = value.at("output").get<std::string>();
    return record;
  } catch (const json::exception& e) {
    return absl::DataLossError(
        fmt::format("stored record is damaged: {}", e.what()));
  }
}

}  // namespace sinklora::curator
