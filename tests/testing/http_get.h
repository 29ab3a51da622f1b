// One HTTP GET to a server on this machine.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_TESTING_HTTP_GET_H_
#define SINKLORA_TESTS_TESTING_HTTP_GET_H_

#include <string>

#include "absl/status/statusor.h"

namespace sinklora::testing {

// The whole response, status line and headers included, from 127.0.0.1:`port`.
// kUnavailable when nobody listens.
absl::StatusOr<std::string> HttpGet(int port, const std::string& path);

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_TESTING_HTTP_GET_H_
