// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/checker.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sinklora::gpu_check {
namespace {

using kernels::Status;
using testing::Tolerance;

bool Exact(const Tolerance& t) {
  return t.relative == 0 && t.of_largest == 0 && t.absolute == 0;
}

// Largest error as a share of what is allowed; infinite for what is not finite.
double WorstShare(const HostData& actual, const HostData& expected,
                  const Tolerance& t) {
  if (actual.size() != expected.size() || actual.size() == 0) return INFINITY;
  if (Exact(t)) return actual.bytes() == expected.bytes() ? 0 : INFINITY;
  double largest = 0;
  for (int64_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected.Get(i)));
  }
  double worst = 0;
  for (int64_t i = 0; i < expected.size(); ++i) {
    const double want = expected.Get(i);
    const double allowed =
        t.relative * std::abs(want) + t.of_largest * largest + t.absolute;
    const double share = std::abs(actual.Get(i) - want) / allowed;
    if (!(share <= worst)) worst = std::isfinite(share) ? share : INFINITY;
  }
  return worst;
}

bool SameBits(const std::vector<HostData>& a, const std::vector<HostData>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const HostData& x, const HostData& y) {
                      return x.bytes() == y.bytes();
                    });
}

}  // namespace

void Checker::Note(const std::string& op, const std::string& shape,
                   const std::string& wrong, double share) {
  Score& score = scores_[op];
  score.worst = std::max(score.worst, share);
  if (wrong.empty()) {
    ++score.passed;
    return;
  }
  ++score.failed;
  if (score.first_failure.empty()) score.first_failure = shape + ": " + wrong;
  std::fprintf(stderr, "FAILED %s %s: %s\n", op.c_str(), shape.c_str(),
               wrong.c_str());
}

void Checker::Check(const std::string& op, const std::string& shape,
                    const RunOp& run,
                    const std::vector<Tolerance>& tolerances) {
  std::vector<HostData> got, again, want;
  for (const auto& [backend, outputs] :
       {std::pair{gpu_, &got}, {gpu_, &again}, {reference_, &want}}) {
    const Status status = run(*backend, outputs);
    if (!status.ok()) {
      Note(op, shape, std::string(backend->name()) + ": " + status.message(),
           INFINITY);
      return;
    }
  }
  if (got.size() != want.size() || got.size() != tolerances.size()) {
    Note(op, shape, "wrong number of outputs", INFINITY);
    return;
  }
  double worst = 0;
  std::string wrong;
  for (size_t i = 0; i < got.size(); ++i) {
    const double share = WorstShare(got[i], want[i], tolerances[i]);
    worst = std::max(worst, share);
    if (share <= 1 || !wrong.empty()) continue;
    char text[96];
    std::snprintf(text, sizeof(text),
                  "output %zu is off by %.3g of what is allowed", i, share);
    wrong = text;
  }
  if (wrong.empty() && !SameBits(got, again)) {
    wrong = "two runs differ in their bits";
  }
  Note(op, shape, wrong, worst);
}

void Checker::Property(const std::string& op, const std::string& shape,
                       const std::string& wrong) {
  Note(op, shape, wrong, wrong.empty() ? 0 : INFINITY);
}

bool Checker::Summarise() const {
  std::printf("%-28s %7s %7s  %s\n", "op", "passed", "failed",
              "worst error / allowed");
  bool all = !scores_.empty();
  for (const auto& [op, score] : scores_) {
    std::printf("%-28s %7d %7d  %.3f\n", op.c_str(), score.passed, score.failed,
                score.worst);
    all &= score.failed == 0;
  }
  return all;
}

std::string Checker::ToJson() const {
  std::string out;
  for (const auto& [op, score] : scores_) {
    char text[256];
    std::snprintf(text, sizeof(text),
                  "%s  {\"op\": \"%s\", \"passed\": %d, \"failed\": %d, "
                  "\"worst_share\": %.6g",
                  out.empty() ? "" : ",\n", op.c_str(), score.passed,
                  score.failed, std::min(score.worst, 1e300));
    out += text;
    std::string failure = score.first_failure;
    std::replace(failure.begin(), failure.end(), '"', '\'');
    out += ", \"first_failure\": \"" + failure + "\"}";
  }
  return "[\n" + out + "\n]";
}

}  // namespace sinklora::gpu_check
