// GoogleMock matchers for statuses, and comparisons of number lists that fail
// on NaN.
//
//   ASSERT_OK_AND_ASSIGN(auto store, OpenRocksStore(dir));
//   EXPECT_THAT(store->Get("x"), StatusIs(absl::StatusCode::kNotFound,
//   HasSubstr("x")));
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_MATCHERS_H_
#define SINKLORA_TESTS_TESTING_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/status.h"

namespace sinklora::testing {

inline absl::Status GetStatus(const absl::Status& status) { return status; }
template <typename T>
absl::Status GetStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}
inline absl::Status GetStatus(const kernels::Status& status) {
  return ToAbsl(status);
}

// Explains `status` to the listener and returns whether code and message match.
bool MatchStatus(const absl::Status& status, absl::StatusCode code,
                 const ::testing::Matcher<const std::string&>& message,
                 ::testing::MatchResultListener* listener);

// Matches absl::Status, absl::StatusOr<T> and kernels::Status.
class StatusMatcher {
 public:
  StatusMatcher(absl::StatusCode code,
                ::testing::Matcher<const std::string&> message)
      : code_(code), message_(std::move(message)) {}
  template <typename T>
  bool MatchAndExplain(const T& value,
                       ::testing::MatchResultListener* listener) const {
    return MatchStatus(GetStatus(value), code_, message_, listener);
  }
  void DescribeTo(std::ostream* os) const;
  void DescribeNegationTo(std::ostream* os) const;

 private:
  absl::StatusCode code_;
  ::testing::Matcher<const std::string&> message_;
};

inline auto IsOk() {
  return ::testing::MakePolymorphicMatcher(
      StatusMatcher(absl::StatusCode::kOk, ::testing::_));
}
inline auto StatusIs(
    absl::StatusCode code,
    ::testing::Matcher<const std::string&> message = ::testing::_) {
  return ::testing::MakePolymorphicMatcher(
      StatusMatcher(code, std::move(message)));
}

// |a[i] - b[i]| <= absolute + relative * |b[i]| for all i; false on NaN and on
// different sizes. Says where it failed.
::testing::AssertionResult AllNear(const std::vector<double>& a,
                                   const std::vector<double>& b,
                                   double absolute, double relative = 0);

// The same for any two containers of numbers.
template <typename A, typename B>
::testing::AssertionResult AllClose(const A& a, const B& b, double absolute,
                                    double relative = 0) {
  return AllNear(std::vector<double>(std::begin(a), std::end(a)),
                 std::vector<double>(std::begin(b), std::end(b)), absolute,
                 relative);
}

}  // namespace sinklora::testing

#define SL_TEST_CONCAT_INNER_(a, b) a##b
#define SL_TEST_CONCAT_(a, b) SL_TEST_CONCAT_INNER_(a, b)

#define ASSERT_OK(expr) ASSERT_THAT((expr), ::sinklora::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::sinklora::testing::IsOk())

#define SL_TEST_ASSIGN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                         \
  ASSERT_TRUE(tmp.ok()) << tmp.status();     \
  lhs = std::move(tmp).value()

// Assigns the value of a StatusOr, or ends the test.
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  SL_TEST_ASSIGN_IMPL_(SL_TEST_CONCAT_(sl_test_, __LINE__), lhs, expr)

#endif  // SINKLORA_TESTS_TESTING_MATCHERS_H_
