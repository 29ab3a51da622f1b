// The passkey task of LongLoRA: a number hidden in repeated filler text. Pure
// functions.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_PASSKEY_PROMPT_H_
#define SINKLORA_SERVICES_CLI_PASSKEY_PROMPT_H_

#include <cstdint>
#include <string>

namespace sinklora::cli {

inline constexpr char kPasskeyQuestion[] =
    "What is the pass key? The pass key is";

// The key of a trial, in [1, 50000): a function of both numbers.
int64_t PasskeyOf(uint64_t seed, int64_t trial);

// Task line, `filler_chars` of filler with the key's line after `depth` (in [0,
// 1]) of it, and the question. ASCII.
std::string PasskeyPrompt(int64_t key, int64_t filler_chars, double depth);

// True when the generated text is the key and nothing else but spaces around
// it.
bool IsPasskey(const std::string& generated, int64_t key);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_PASSKEY_PROMPT_H_
