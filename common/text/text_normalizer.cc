// SPDX-License-Identifier: Apache-2.0
#include "common/text/text_normalizer.h"

#include <utility>

#include "common/text/unicode.h"

namespace sinklora {
namespace {

std::string Replace(std::string_view text, std::string_view from,
                    std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos;
       at = text.find(from, done)) {
    out += text.substr(done, at - done);
    out += to;
    done = at + from.size();
  }
  out += text.substr(done);
  return out;
}

}  // namespace

std::optional<std::string> TextNormalizer::Normalize(std::string_view text,
                                                     bool may_prepend) const {
  std::optional<std::string> out;
  for (const Step& step : steps_) {
    if (text.empty()) break;
    std::optional<std::string> next;
    switch (step.kind) {
      case Step::kNfc:
        next = ToNfc(text);
        break;
      case Step::kPrepend:
        if (may_prepend) next = step.to + std::string(text);
        break;
      case Step::kReplace:
        next = Replace(text, step.from, step.to);
        break;
    }
    if (!next) continue;
    out = std::move(next);
    text = *out;
  }
  return out;
}

}  // namespace sinklora
