// SPDX-License-Identifier: Apache-2.0
#include "common/text/jinja_scan.h"

#include <algorithm>

namespace sinklora {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

JinjaScan::JinjaScan(std::string_view jinja) {
  size_t i = 0;
  while (i < jinja.size()) {
    const std::string_view rest = jinja.substr(i);
    if (rest.starts_with("{#")) {
      const size_t end = jinja.find("#}", i + 2);
      i = end == std::string_view::npos ? jinja.size() : end + 2;
    } else if (rest.starts_with("{{") || rest.starts_with("{%")) {
      i = ScanTag(jinja, i);
    } else {
      // Text outside of tags is printed as it is, unless it is the indentation
      // of the template itself.
      code_.push_back(jinja[i++]);
    }
  }
  FindMarkers();
}

size_t JinjaScan::ScanTag(std::string_view jinja, size_t i) {
  const bool prints = jinja[i + 1] == '{';
  const std::string_view end = prints ? "}}" : "%}";
  code_ += prints ? "{{" : "{%";
  i += 2;
  if (i < jinja.size() && (jinja[i] == '-' || jinja[i] == '+')) ++i;
  while (i < jinja.size()) {
    const std::string_view rest = jinja.substr(i);
    if (rest.starts_with(end)) {
      code_ += end;
      return i + 2;
    }
    if ((rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(end)) {
      ++i;
    } else if (rest[0] == '\'' || rest[0] == '"') {
      i = ScanLiteral(jinja, i);
    } else {
      if (!IsBlank(rest[0])) code_.push_back(rest[0]);
      ++i;
    }
  }
  return i;
}

size_t JinjaScan::ScanLiteral(std::string_view jinja, size_t i) {
  const char quote = jinja[i++];
  std::string text;
  for (; i < jinja.size() && jinja[i] != quote; ++i) {
    char c = jinja[i];
    if (c == '\\' && i + 1 < jinja.size()) {
      c = jinja[++i];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
      if (c == 'r') c = '\r';
    }
    text.push_back(c);
  }
  code_ += "'" + text + "'";
  literals_.push_back(std::move(text));
  return i + 1;
}

void JinjaScan::FindMarkers() {
  for (const std::string& literal : literals_) {
    for (size_t i = literal.find("<|"); i != std::string::npos;
         i = literal.find("<|", i + 2)) {
      const size_t end = literal.find("|>", i + 2);
      const size_t size =
          end == std::string::npos ? std::string::npos : end + 2 - i;
      markers_.push_back(literal.substr(i, size));
    }
  }
}

bool JinjaScan::HasLiteral(std::string_view text) const {
  return std::find(literals_.begin(), literals_.end(), text) != literals_.end();
}

bool JinjaScan::HasInLiteral(std::string_view text) const {
  return std::any_of(literals_.begin(), literals_.end(),
                     [&](const std::string& literal) {
                       return literal.find(text) != std::string::npos;
                     });
}

}  // namespace sinklora
