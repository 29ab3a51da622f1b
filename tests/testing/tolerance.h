// How far a result may be from what is expected.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_TOLERANCE_H_
#define SINKLORA_TESTS_TESTING_TOLERANCE_H_

namespace sinklora::testing {

// |actual - expected| <= relative * |expected| + of_largest * max|expected| +
// absolute.
struct Tolerance {
  double relative = 0.0;
  double of_largest = 0.0;  // for sums: error follows the terms, not the sum
  double absolute = 0.0;
};

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_TOLERANCE_H_
