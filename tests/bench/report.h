// What a benchmark found, as lines, as one JSON object, or one value of it, as
// compare.sh wants.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_BENCH_REPORT_H_
#define SINKLORA_TESTS_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace sinklora::bench {

class Report {
 public:
  template <typename T>
  void Add(const std::string& name, const T& value) {
    values_[name] = value;
  }
  void PrintText() const;
  void PrintJson() const;
  // One value. kNotFound with the list of names.
  absl::Status PrintValue(const std::string& name) const;

 private:
  nlohmann::ordered_json values_;
};

double MedianOf(std::vector<double> values);  // REQUIRES: not empty

}  // namespace sinklora::bench

#endif  // SINKLORA_TESTS_BENCH_REPORT_H_
