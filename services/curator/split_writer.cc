// SPDX-License-Identifier: Apache-2.0
#include "services/curator/split_writer.h"

#include "common/base/status.h"

namespace sinklora::curator {

absl::StatusOr<std::unique_ptr<SplitWriter>> SplitWriter::Create(
    const std::string& path, const Recipe& recipe, const RecordEncoder* encoder,
    std::vector<LedgerEntry>* entries) {
  SL_ASSIGN_OR_RETURN(auto writer, ExampleWriter::Create(path));
  return std::unique_ptr<SplitWriter>(
      new SplitWriter(recipe.builder, recipe.context_tokens, encoder, entries,
                      std::move(writer)));
}

SplitWriter::SplitWriter(Builder builder, int64_t context_tokens,
                         const RecordEncoder* encoder,
                         std::vector<LedgerEntry>* entries,
                         std::unique_ptr<ExampleWriter> writer)
    : builder_(builder),
      encoder_(encoder),
      entries_(entries),
      writer_(std::move(writer)),
      packer_(context_tokens, [this](const TrainingExample& example) {
        return writer_->Add(example);
      }) {}

absl::Status SplitWriter::Add(int64_t position, const EncodedRecord& encoded) {
  LedgerEntry& entry = this->entry(position);
  if (!encoded.has_supervised_tokens) {
    entry.reason = RejectReason::kNoSupervisedTokens;
    return absl::OkStatus();
  }
  entry.tokens = static_cast<int64_t>(encoded.token_ids.size());
  entry.dropped_tokens = encoded.dropped_tokens;
  text_bytes_ += encoded.text_bytes;
  if (builder_ == Builder::kPackedText) {
    return packer_.Add(position, encoded.token_ids);
  }
  return writer_->Add({encoded.token_ids, encoded.supervised, {entry.tokens}});
}

absl::StatusOr<StoredFile> SplitWriter::Finish() {
  SL_ASSIGN_OR_RETURN(const auto dropped, packer_.Finish());
  for (const Packer::Dropped& part : dropped) {
    LedgerEntry& entry = this->entry(part.document);
    const auto tokens = static_cast<int64_t>(part.token_ids.size());
    entry.tokens -= tokens;
    entry.dropped_tokens += tokens;
    // A document that was in the dropped example only is in no example.
    if (entry.tokens == 0) {
      entry.reason = RejectReason::kTooShort;
      text_bytes_ -= entry.text_bytes;
    } else {
      text_bytes_ -= encoder_->CountTextBytes(part.token_ids);
    }
  }
  SL_ASSIGN_OR_RETURN(std::string sha256, writer_->Finish());
  return StoredFile{"", writer_->size_bytes(), std::move(sha256)};
}

}  // namespace sinklora::curator
