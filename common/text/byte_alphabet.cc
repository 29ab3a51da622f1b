// SPDX-License-Identifier: Apache-2.0
#include "common/text/byte_alphabet.h"

#include <array>

#include "common/text/utf8.h"

namespace sinklora {
namespace {

// Every character of the alphabet is below this.
constexpr char32_t kAlphabetEnd = 0x100 + 256;

struct Alphabet {
  std::array<std::string, 256> text;
  std::array<int16_t, kAlphabetEnd> byte;  // -1: not in the alphabet
};

Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next_substitute = 0x100;
  for (int b = 0; b < 256; ++b) {
    // Printable Latin-1 stands for itself, the others for characters from
    // U+0100 on, in order.
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) ||
                           (b >= 0xAE && b <= 0xFF);
    const char32_t code_point =
        printable ? static_cast<char32_t>(b) : next_substitute++;
    AppendUtf8(code_point, &alphabet.text[b]);
    alphabet.byte[code_point] = static_cast<int16_t>(b);
  }
  return alphabet;
}

const Alphabet& TheAlphabet() {
  static const Alphabet& alphabet = *new Alphabet(MakeAlphabet());
  return alphabet;
}

}  // namespace

const std::string& ByteToAlphabet(uint8_t byte) {
  return TheAlphabet().text[byte];
}

std::string BytesToAlphabet(std::string_view bytes) {
  std::string out;
  for (char byte : bytes) out += ByteToAlphabet(static_cast<uint8_t>(byte));
  return out;
}

std::optional<std::string> AlphabetToBytes(std::string_view text) {
  const Alphabet& alphabet = TheAlphabet();
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const char32_t code_point = DecodeUtf8(text, &i);
    if (code_point >= kAlphabetEnd || alphabet.byte[code_point] < 0) {
      return std::nullopt;
    }
    out.push_back(static_cast<char>(alphabet.byte[code_point]));
  }
  return out;
}

}  // namespace sinklora
