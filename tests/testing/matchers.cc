// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/matchers.h"

#include <cmath>

namespace sinklora::testing {

bool MatchStatus(const absl::Status& status, absl::StatusCode code,
                 const ::testing::Matcher<const std::string&>& message,
                 ::testing::MatchResultListener* listener) {
  *listener << "whose status is " << status.ToString();
  return status.code() == code &&
         message.Matches(std::string(status.message()));
}

void StatusMatcher::DescribeTo(std::ostream* os) const {
  *os << "has status " << absl::StatusCodeToString(code_)
      << " and a message that ";
  message_.DescribeTo(os);
}

void StatusMatcher::DescribeNegationTo(std::ostream* os) const {
  *os << "has not: status " << absl::StatusCodeToString(code_)
      << " and a message that ";
  message_.DescribeTo(os);
}

::testing::AssertionResult AllNear(const std::vector<double>& a,
                                   const std::vector<double>& b,
                                   double absolute, double relative) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure()
           << "sizes differ: " << a.size() << " and " << b.size();
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const double limit = absolute + relative * std::abs(b[i]);
    // Written so that NaN on either side fails; equal infinities pass.
    if (a[i] == b[i] || std::abs(a[i] - b[i]) <= limit) continue;
    return ::testing::AssertionFailure()
           << "at [" << i << "]: " << a[i] << " against " << b[i]
           << ", allowed difference " << limit;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace sinklora::testing
