// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sinklora::bench {
namespace {

// Four significant digits, whole numbers as they are.
std::string TextOf(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  const auto number = value.get<double>();
  return std::abs(number) >= 1000 ? fmt::format("{:.0f}", number)
                                  : fmt::format("{:.4g}", number);
}

}  // namespace

void Report::PrintText() const {
  for (const auto& [name, value] : values_.items()) {
    fmt::print("{:<36} {}\n", name, TextOf(value));
  }
}

void Report::PrintJson() const { fmt::print("{}\n", values_.dump()); }

absl::Status Report::PrintValue(const std::string& name) const {
  if (values_.contains(name)) {
    fmt::print("{}\n", values_.at(name).dump());
    return absl::OkStatus();
  }
  std::string names;
  for (const auto& [key, value] : values_.items()) names += " " + key;
  return absl::NotFoundError(
      fmt::format("--value is {}, must be one of{}", name, names));
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace sinklora::bench
