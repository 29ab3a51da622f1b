// Runs a fuzz target's regression inputs through its entry function, and
// variants of them: a few seconds of fuzzing without the fuzzer.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "common/base/files.h"
#include "common/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sinklora {
namespace {

void RunTarget(const std::string& input) {
  // A copy of the exact size, so that AddressSanitizer sees a read past it.
  const std::vector<uint8_t> copy(input.begin(), input.end());
  ASSERT_EQ(LLVMFuzzerTestOneInput(copy.data(), copy.size()), 0);
}

class FuzzReplay : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* root = std::getenv("SINKLORA_SOURCE_DIR");
    ASSERT_NE(root, nullptr) << "SINKLORA_SOURCE_DIR is not set";
    const std::string dir =
        JoinPath(root, "tests/fuzz/regressions/" FUZZ_TARGET);
    const auto files = ListFilesRecursive(dir);
    ASSERT_TRUE(files.ok()) << files.status();
    for (const std::string& file : *files) {
      const auto input = ReadFile(JoinPath(dir, file));
      ASSERT_TRUE(input.ok()) << input.status();
      inputs_.push_back(*input);
    }
    ASSERT_FALSE(inputs_.empty()) << "no inputs in " << dir;
  }
  std::vector<std::string> inputs_;
};

TEST_F(FuzzReplay, RegressionInputs) {
  RunTarget("");
  for (const std::string& input : inputs_) RunTarget(input);
}

TEST_F(FuzzReplay, TheirPrefixes) {
  constexpr size_t kMaxPrefixes = 200;
  for (const std::string& input : inputs_) {
    const size_t step = input.size() / kMaxPrefixes + 1;
    for (size_t size = 0; size < input.size(); size += step) {
      RunTarget(input.substr(0, size));
    }
  }
}

TEST_F(FuzzReplay, TheirMutations) {
  constexpr size_t kMutations = 100;
  uint64_t stream = 0;
  for (const std::string& input : inputs_) {
    if (input.empty() || input.size() > FUZZ_MAX_LEN) continue;
    const CounterRng rng(1, stream++);
    for (size_t i = 0; i < kMutations; ++i) {
      std::string mutated = input;
      for (uint64_t change = 0; change <= i % 4; ++change) {
        const uint64_t at = rng.Bits(8 * i + 2 * change) % mutated.size();
        mutated[at] = static_cast<char>(rng.Bits(8 * i + 2 * change + 1));
      }
      RunTarget(mutated);
    }
  }
}

}  // namespace
}  // namespace sinklora
