// SPDX-License-Identifier: Apache-2.0
#include "services/cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "services/cli/format.h"

namespace sinklora::cli {
namespace {

constexpr int kBarWidth = 24;
constexpr int64_t kDrawIntervalMicros = 100'000;

}  // namespace

Progress::Progress(Output* output, const Clock* clock, std::string label,
                   Unit unit, std::string noun, int64_t total)
    : output_(output),
      clock_(clock),
      label_(std::move(label)),
      unit_(unit),
      noun_(std::move(noun)),
      total_(total),
      start_micros_(clock->MonotonicMicros()) {}

Progress::~Progress() { output_->ClearStatusLine(); }

double Progress::elapsed_seconds() const {
  return static_cast<double>(clock_->MonotonicMicros() - start_micros_) * 1e-6;
}

std::string Progress::Amount(int64_t n) const {
  return unit_ == Unit::kBytes ? FormatBytes(n) : FormatCount(n);
}

std::string Progress::Line() const {
  const double seconds = std::max(elapsed_seconds(), 1e-6);
  const double rate = static_cast<double>(done_) / seconds;
  const std::string noun = unit_ == Unit::kBytes ? "" : " " + noun_;
  const std::string speed = rate >= 10 || rate == 0 || unit_ == Unit::kBytes
                                ? Amount(static_cast<int64_t>(rate))
                                : fmt::format("{:.1f}", rate);
  if (total_ <= 0) {
    return fmt::format("{}  {}{}  {}/s", label_, Amount(done_), noun, speed);
  }
  const double share = std::clamp(
      static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
  const int full = static_cast<int>(share * kBarWidth);
  const std::string bar =
      std::string(static_cast<size_t>(full), '#') +
      std::string(static_cast<size_t>(kBarWidth - full), '.');
  const std::string left =
      rate > 0 ? FormatSeconds(static_cast<double>(total_ - done_) / rate)
               : "-";
  return fmt::format("{}  [{}] {:3.0f} %  {}/{}{}  {}/s  {} left", label_, bar,
                     share * 100, Amount(done_), Amount(total_), noun, speed,
                     left);
}

void Progress::Set(int64_t done) {
  done_ = done;
  const int64_t now = clock_->MonotonicMicros();
  const bool ended = total_ > 0 && done_ >= total_;
  if (!ended && drawn_micros_ != 0 &&
      now - drawn_micros_ < kDrawIntervalMicros) {
    return;
  }
  drawn_micros_ = now;
  output_->SetStatusLine(Line());
}

}  // namespace sinklora::cli
