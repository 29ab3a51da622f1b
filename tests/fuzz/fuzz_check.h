// FUZZ_CHECK: what must hold of every input. It ends the process, which both
// libFuzzer and the replay test report with the input.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_FUZZ_FUZZ_CHECK_H_
#define SINKLORA_TESTS_FUZZ_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "absl/status/status.h"

#define FUZZ_CHECK(condition)                                              \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                        \
    }                                                                      \
  } while (false)

namespace sinklora::fuzz {

// An input is refused for what it is, by a message a person can use: it names
// the file and is neither empty nor as long as the input wants it to be.
inline void CheckRefusal(const absl::Status& status, std::string_view what) {
  constexpr size_t kMaxMessageBytes = 32 << 10;
  const std::string_view message(status.message().data(),
                                 status.message().size());
  FUZZ_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  FUZZ_CHECK(message.find(what) != std::string_view::npos);
  FUZZ_CHECK(message.size() < kMaxMessageBytes);
}

}  // namespace sinklora::fuzz

#endif  // SINKLORA_TESTS_FUZZ_FUZZ_CHECK_H_
