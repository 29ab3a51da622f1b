// SPDX-License-Identifier: Apache-2.0
#include "common/text/metaspace_tokenizer.h"

#include <utility>

#include "common/text/utf8.h"

namespace sinklora {

MetaspaceTokenizer::MetaspaceTokenizer(Vocabulary vocabulary,
                                       TextNormalizer normalizer,
                                       std::optional<Metaspace> metaspace,
                                       CharacterBpeOptions options)
    : VocabTokenizer(std::move(vocabulary)),
      normalizer_(std::move(normalizer)),
      metaspace_(metaspace),
      model_(std::move(options)) {
  mark_spaces_.AddReplace(" ", std::string(kSpaceMark));
}

absl::Status MetaspaceTokenizer::EncodeNormalized(
    std::string_view text, Start start, std::vector<int32_t>* ids) const {
  if (!metaspace_) {
    model_.Encode(text, ids);
    return absl::OkStatus();
  }
  const bool prepends = (metaspace_->prepend == Metaspace::Prepend::kAlways &&
                         start != Start::kContinued) ||
                        (metaspace_->prepend == Metaspace::Prepend::kFirst &&
                         start == Start::kText);
  std::string marked =
      mark_spaces_.Normalize(text, /*may_prepend=*/false).value();
  if (prepends && !marked.starts_with(kSpaceMark)) {
    marked.insert(0, kSpaceMark);
  }
  model_.Encode(marked, ids);
  return absl::OkStatus();
}

}  // namespace sinklora
