// GPT-2's byte alphabet: each of the 256 byte values written as one printable
// character, so that a vocabulary of byte strings fits into JSON.
//
// Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_BYTE_ALPHABET_H_
#define SINKLORA_COMMON_TEXT_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sinklora {

// The character of `byte` as UTF-8.
const std::string& ByteToAlphabet(uint8_t byte);
// `bytes` in the alphabet.
std::string BytesToAlphabet(std::string_view bytes);
// The bytes that `text` stands for; nullopt when a character is not in the
// alphabet. REQUIRES: valid UTF-8.
std::optional<std::string> AlphabetToBytes(std::string_view text);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_BYTE_ALPHABET_H_
