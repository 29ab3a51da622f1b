// SPDX-License-Identifier: Apache-2.0
#include "services/cli/passkey_prompt.h"

#include <fmt/format.h>

#include <cmath>

#include "common/base/random.h"

namespace sinklora::cli {
namespace {

constexpr char kTask[] =
    "There is an important info hidden inside a lot of irrelevant text. Find "
    "it and memorize them. I will quiz you about the important information "
    "there.";
constexpr char kFiller[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. "
    "There and back again.";
constexpr uint64_t kKeyStream = 0x7061'7373'6b65'79;  // "passkey"

std::string Filler(int64_t chars) {
  const std::string sentence = std::string(kFiller) + " ";
  std::string text;
  while (static_cast<int64_t>(text.size()) < chars) text += sentence;
  text.resize(static_cast<size_t>(chars));
  return text;
}

}  // namespace

int64_t PasskeyOf(uint64_t seed, int64_t trial) {
  const CounterRng rng(seed, kKeyStream);
  return 1 +
         static_cast<int64_t>(rng.Below(static_cast<uint64_t>(trial), 49'999));
}

std::string PasskeyPrompt(int64_t key, int64_t filler_chars, double depth) {
  const auto prefix = static_cast<int64_t>(
      std::llround(depth * static_cast<double>(filler_chars)));
  // Both parts start at the filler's first word, as in LongLoRA's script.
  return fmt::format(
      "{}\n{}\nThe pass key is {}. Remember it. {} is the pass key.\n{}\n{}",
      kTask, Filler(prefix), key, key, Filler(filler_chars - prefix),
      kPasskeyQuestion);
}

bool IsPasskey(const std::string& generated, int64_t key) {
  const size_t begin = generated.find_first_not_of(' ');
  if (begin == std::string::npos) return false;
  const size_t end = generated.find_last_not_of(' ');
  return generated.substr(begin, end - begin + 1) == std::to_string(key);
}

}  // namespace sinklora::cli
