// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

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

void Report::Print(ReportStyle style) const {
  switch (style) {
    case ReportStyle::kNumber:
      fmt::print("{}\n", values_.at(main_).dump());
      break;
    case ReportStyle::kJson:
      fmt::print("{}\n", values_.dump());
      break;
    case ReportStyle::kText:
      for (const auto& [name, value] : values_.items()) {
        fmt::print("{:<36} {}\n", name, TextOf(value));
      }
  }
}

void ResetPeakResident() { std::ofstream("/proc/self/clear_refs") << "5"; }

int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  int64_t kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kib) == 1) break;
  }
  return kib << 10;
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace sinklora::bench
