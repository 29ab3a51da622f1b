// SPDX-License-Identifier: Apache-2.0
#include "services/curator/record_encoder.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace sinklora::curator {
namespace {

// The prompt of a record: Alpaca's template has a heading for the input, in the
// others it follows as a paragraph.
std::string UserPrompt(const Record& record, ChatTemplate chat_template) {
  if (record.input.empty()) return record.instruction;
  const char* separator =
      chat_template == ChatTemplate::kAlpaca ? "\n\n### Input:\n" : "\n\n";
  return record.instruction + separator + record.input;
}

}  // namespace

absl::StatusOr<RecordEncoder> RecordEncoder::Create(
    const Recipe& recipe, const Tokenizer* tokenizer) {
  SL_ASSIGN_OR_RETURN(const ChatTemplate chat_template,
                      ParseChatTemplate(recipe.chat_template));
  return RecordEncoder(tokenizer, chat_template, recipe.system_prompt,
                       recipe.context_tokens);
}

absl::StatusOr<EncodedRecord> RecordEncoder::Encode(
    const Record& record) const {
  return record.format == SourceFormat::kPlainText ? EncodeText(record.text)
                                                   : EncodeInstruction(record);
}

absl::StatusOr<EncodedRecord> RecordEncoder::EncodeText(
    const std::string& text) const {
  SL_ASSIGN_OR_RETURN(std::vector<int32_t> text_ids, tokenizer_->Encode(text));
  EncodedRecord encoded;
  encoded.token_ids = std::move(text_ids);
  if (tokenizer_->bos_id().has_value()) {
    encoded.token_ids.insert(encoded.token_ids.begin(), *tokenizer_->bos_id());
  }
  if (tokenizer_->eos_id().has_value()) {
    encoded.token_ids.push_back(*tokenizer_->eos_id());
  }
  encoded.text_bytes = static_cast<int64_t>(text.size());
  // The first token of a document is never a target.
  encoded.has_supervised_tokens = encoded.token_ids.size() > 1;
  return encoded;
}

absl::StatusOr<EncodedRecord> RecordEncoder::EncodeInstruction(
    const Record& record) const {
  std::vector<ChatTurn> turns;
  if (!system_prompt_.empty()) turns.push_back({"system", system_prompt_});
  turns.push_back({"user", UserPrompt(record, chat_template_)});
  turns.push_back({"assistant", record.output});
  SL_ASSIGN_OR_RETURN(
      EncodedChat chat,
      EncodeChat(*tokenizer_, NamedChatFormat(chat_template_), turns));
  EncodedRecord encoded;
  encoded.token_ids = std::move(chat.token_ids);
  encoded.supervised = std::move(chat.supervised);
  const auto limit = static_cast<size_t>(context_tokens_);
  if (encoded.token_ids.size() > limit) {
    encoded.dropped_tokens =
        static_cast<int64_t>(encoded.token_ids.size() - limit);
    encoded.token_ids.resize(limit);
    encoded.supervised.resize(limit);
  }
  if (!encoded.supervised.empty()) encoded.supervised.front() = 0;
  encoded.has_supervised_tokens =
      std::find(encoded.supervised.begin(), encoded.supervised.end(), 1) !=
      encoded.supervised.end();
  encoded.text_bytes = CountTextBytes(encoded.token_ids);
  return encoded;
}

int64_t RecordEncoder::CountTextBytes(
    const std::vector<int32_t>& token_ids) const {
  int64_t bytes = 0;
  for (const int32_t id : token_ids) {
    bytes += static_cast<int64_t>(tokenizer_->TokenBytes(id).size());
  }
  return bytes;
}

}  // namespace sinklora::curator
