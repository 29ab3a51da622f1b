// What a benchmark found, as lines, as one JSON object, or as the one number
// that compare.sh wants; and the memory of this process.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_REPORT_H_
#define SINKLORA_TESTS_BENCH_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace sinklora::bench {

enum class ReportStyle { kText, kJson, kNumber };

class Report {
 public:
  template <typename T>
  void Add(const std::string& name, const T& value) {
    values_[name] = value;
  }
  // The number that kNumber prints. REQUIRES: added before.
  void SetMain(const std::string& name) { main_ = name; }
  void Print(ReportStyle style) const;

 private:
  nlohmann::ordered_json values_;
  std::string main_;
};

// From here on PeakResidentBytes() counts anew.
void ResetPeakResident();
// Largest resident set of this process, in bytes; 0 where the kernel does not
// say.
int64_t PeakResidentBytes();

double MedianOf(std::vector<double> values);  // REQUIRES: not empty

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_REPORT_H_
