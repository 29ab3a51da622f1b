// A progress bar with throughput and time left on the last line of a terminal's
// stderr. Prints nothing elsewhere. Not thread-safe. Borrows the output and the
// clock.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_PROGRESS_H_
#define SINKLORA_SERVICES_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "services/cli/output.h"

namespace sinklora::cli {

class Progress {
 public:
  enum class Unit { kBytes, kCount };
  // `noun` follows counts, e.g. "windows"; unused for bytes. `total` 0:
  // unknown, no bar and no time left.
  Progress(Output* output, const Clock* clock, std::string label, Unit unit,
           std::string noun, int64_t total);
  ~Progress();  // removes the line

  // Draws at most ten times a second, and always at the end.
  void Set(int64_t done);
  void Add(int64_t more) { Set(done_ + more); }
  int64_t done() const { return done_; }
  double elapsed_seconds() const;
  // The line as it would be drawn now.
  std::string Line() const;

 private:
  std::string Amount(int64_t n) const;

  Output* const output_;
  const Clock* const clock_;
  const std::string label_;
  const Unit unit_;
  const std::string noun_;
  const int64_t total_;
  const int64_t start_micros_;
  int64_t drawn_micros_ = 0;
  int64_t done_ = 0;
};

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_PROGRESS_H_
