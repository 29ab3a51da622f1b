// What tokenizers need to know of Unicode beyond its encodings (data: ICU).
//
// Thread-safe. All REQUIRE valid UTF-8.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_TEXT_UNICODE_H_
#define SINKLORA_COMMON_TEXT_UNICODE_H_

#include <optional>
#include <string>
#include <string_view>

namespace sinklora {

// Normalization form C of `text`; nullopt when it is in that form already.
// Linear in its length, also for endless runs of combining marks.
std::optional<std::string> ToNfc(std::string_view text);

// White_Space, as regular expressions mean \s.
bool IsWhiteSpace(char32_t c);
// Alphabetic, marks, decimal digits, connectors and joiners, as regular
// expressions mean \w.
bool IsWordCharacter(char32_t c);

// The last code point of `text`, which is not empty, and where it starts.
char32_t LastCodePoint(std::string_view text, size_t* start);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_TEXT_UNICODE_H_
