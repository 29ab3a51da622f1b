// SPDX-License-Identifier: Apache-2.0
#include "services/cli/output.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace sinklora::cli {
namespace {

constexpr char kBold[] = "\033[1m";
constexpr char kRed[] = "\033[31;1m";
constexpr char kPlain[] = "\033[0m";
constexpr char kClearLine[] = "\r\033[K";

// Characters of UTF-8 text: good enough for names and numbers, which is all
// that tables hold.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(),
      [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Pad(const std::string& text, size_t width, Table::Align align) {
  const size_t have = Width(text);
  const std::string fill(width > have ? width - have : 0, ' ');
  return align == Table::Align::kRight ? fill + text : text + fill;
}

}  // namespace

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  // Fails only for Any and out-of-range timestamps, of which our messages have
  // none.
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return Json{{"unprintable", message.GetTypeName()}};
  return Json::parse(text);
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    std::replace(cell.begin(), cell.end(), '\n', ' ');
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Render(bool bold_header) const {
  std::vector<size_t> widths;
  std::vector<std::string> headers;
  for (const Column& column : columns_) {
    widths.push_back(Width(column.header));
    headers.push_back(column.header);
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) text += "  ";
      text += Pad(cells[i], widths[i], columns_[i].align);
    }
    return text.substr(0, text.find_last_not_of(' ') + 1);
  };
  std::string result = line(headers);
  if (bold_header) result = kBold + result + kPlain;
  result += '\n';
  for (const auto& row : rows_) result += line(row) + '\n';
  return result;
}

void Output::PrintJson(const Json& document) {
  Print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Output::PrintJsonLine(const Json& document) {
  Print(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Output::PrintTable(const Table& table) {
  Print(table.Render(options_.allow_color && options_.out_is_terminal));
}

void Output::PrintFields(
    const std::vector<std::pair<std::string, std::string>>& fields) {
  size_t width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, Width(name));
  for (const auto& [name, value] : fields) {
    Print(
        fmt::format("{}  {}\n", Pad(name, width, Table::Align::kLeft), value));
  }
}

void Output::Print(const std::string& text) {
  ClearStatusLine();
  *options_.out << text << std::flush;
}

void Output::Note(const std::string& text) {
  if (json_) return;
  ClearStatusLine();
  *options_.err << text << '\n' << std::flush;
}

void Output::PrintError(const absl::Status& status) {
  ClearStatusLine();
  const ErrorDetail detail = GetErrorDetail(status);
  const std::string message(status.message());
  if (json_) {
    const Json error = {{"error",
                         {{"code", absl::StatusCodeToString(status.code())},
                          {"reason", detail.reason},
                          {"message", message},
                          {"metadata", detail.metadata}}}};
    *options_.err << error.dump(-1, ' ', false, Json::error_handler_t::replace)
                  << '\n'
                  << std::flush;
    return;
  }
  const std::string reason = detail.reason.empty()
                                 ? absl::StatusCodeToString(status.code())
                                 : detail.reason;
  *options_.err << (err_color() ? kRed : "")
                << "error:" << (err_color() ? kPlain : "") << ' ' << message
                << " (" << reason << ")\n"
                << std::flush;
}

void Output::SetStatusLine(const std::string& line) {
  if (!options_.err_is_terminal || json_) return;
  *options_.err << kClearLine << line << std::flush;
  has_status_line_ = true;
}

void Output::ClearStatusLine() {
  if (!has_status_line_) return;
  *options_.err << kClearLine << std::flush;
  has_status_line_ = false;
}

}  // namespace sinklora::cli
