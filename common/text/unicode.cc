// SPDX-License-Identifier: Apache-2.0
#include "common/text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include <algorithm>
#include <vector>

#include "common/text/utf8.h"

namespace sinklora {
namespace {

// Below this every character is itself in form C and none combines with what
// stands before it.
constexpr char32_t kFirstCombining = 0x300;

const UNormalizer2* Nfc() {
  static const UNormalizer2* const nfc = [] {
    UErrorCode error = U_ZERO_ERROR;
    return unorm2_getNFCInstance(&error);
  }();
  return nfc;
}

struct Mark {
  char32_t code_point;
  uint8_t combining_class;
};

// Appends the full canonical decomposition of `c`.
void AppendDecomposed(char32_t c, std::vector<Mark>* out) {
  UChar units[16];  // the longest canonical decomposition has 4 code points
  UErrorCode error = U_ZERO_ERROR;
  const int32_t length = unorm2_getDecomposition(
      Nfc(), static_cast<UChar32>(c), units, std::size(units), &error);
  if (U_FAILURE(error) || length < 0) {
    out->push_back({c, u_getCombiningClass(static_cast<UChar32>(c))});
    return;
  }
  for (int32_t i = 0; i < length;) {
    UChar32 part = 0;
    U16_NEXT(units, i, length, part);
    out->push_back({static_cast<char32_t>(part), u_getCombiningClass(part)});
  }
}

// Canonical order within each run of marks. Sorting by insertion, as libraries
// do for the short runs of real text, would be quadratic.
void Reorder(std::vector<Mark>* marks) {
  for (auto begin = marks->begin(); begin != marks->end();) {
    if (begin->combining_class == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, marks->end(), [](const Mark& mark) {
      return mark.combining_class == 0;
    });
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
}

// Canonical composition: each character that is not blocked from the last
// starter is composed with it where a composite exists.
void Compose(std::vector<Mark>* marks) {
  std::vector<Mark>& in = *marks;
  size_t out = 0;
  size_t starter = in.size();  // none yet
  int last_class = -1;         // of what stands between starter and `mark`
  for (size_t i = 0; i < in.size(); ++i) {
    const Mark mark = in[i];
    const bool blocked =
        last_class >= 0 && (last_class >= mark.combining_class);
    if (starter < out && !blocked) {
      const UChar32 composite = unorm2_composePair(
          Nfc(), static_cast<UChar32>(in[starter].code_point),
          static_cast<UChar32>(mark.code_point));
      if (composite >= 0) {
        in[starter].code_point = static_cast<char32_t>(composite);
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = out;
      last_class = -1;
    } else {
      last_class = mark.combining_class;
    }
    in[out++] = mark;
  }
  in.resize(out);
}

// The end of the stretch from `begin` on that is normalized by itself.
size_t SegmentEnd(std::string_view text, size_t begin, char32_t* first) {
  size_t end = begin;
  *first = DecodeUtf8(text, &end);
  while (end < text.size()) {
    size_t next = end;
    const char32_t c = DecodeUtf8(text, &next);
    if (c < kFirstCombining ||
        unorm2_hasBoundaryBefore(Nfc(), static_cast<UChar32>(c))) {
      break;
    }
    end = next;
  }
  return end;
}

bool IsUnchangedAlone(char32_t c) {
  return c < kFirstCombining ||
         u_getIntPropertyValue(static_cast<UChar32>(c),
                               UCHAR_NFC_QUICK_CHECK) == UNORM_YES;
}

}  // namespace

std::optional<std::string> ToNfc(std::string_view text) {
  std::string out;
  size_t copied = 0;  // text before it is in `out`
  bool changed = false;
  std::vector<Mark> marks;
  for (size_t begin = 0; begin < text.size();) {
    if (static_cast<unsigned char>(text[begin]) < 0x80 &&
        (begin + 1 == text.size() ||
         static_cast<unsigned char>(text[begin + 1]) < 0x80)) {
      ++begin;
      continue;
    }
    char32_t first = 0;
    const size_t end = SegmentEnd(text, begin, &first);
    size_t first_end = begin;
    DecodeUtf8(text, &first_end);
    if (first_end == end && IsUnchangedAlone(first)) {
      begin = end;
      continue;
    }
    marks.clear();
    for (size_t i = begin; i < end;) {
      AppendDecomposed(DecodeUtf8(text, &i), &marks);
    }
    Reorder(&marks);
    Compose(&marks);
    std::string normalized;
    for (const Mark& mark : marks) AppendUtf8(mark.code_point, &normalized);
    const std::string_view original = text.substr(begin, end - begin);
    if (normalized != original) {
      changed = true;
      out += text.substr(copied, begin - copied);
      out += normalized;
      copied = end;
    }
    begin = end;
  }
  if (!changed) return std::nullopt;
  out += text.substr(copied);
  return out;
}

bool IsWhiteSpace(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE) != 0;
}

bool IsWordCharacter(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  constexpr uint32_t kCategories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(u, UCHAR_ALPHABETIC) != 0 ||
         (U_GET_GC_MASK(u) & kCategories) != 0 ||
         u_hasBinaryProperty(u, UCHAR_JOIN_CONTROL) != 0;
}

char32_t LastCodePoint(std::string_view text, size_t* start) {
  size_t i = text.size() - 1;
  while ((text[i] & 0xC0) == 0x80) --i;
  *start = i;
  return DecodeUtf8(text, &i);
}

}  // namespace sinklora
