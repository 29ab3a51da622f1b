// Tokenises one record for one builder.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_RECORD_ENCODER_H_
#define SINKLORA_SERVICES_CURATOR_RECORD_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/chat_template.h"
#include "common/text/tokenizer.h"
#include "services/curator/record.h"
#include "services/curator/types.h"

namespace sinklora::curator {

struct EncodedRecord {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> supervised;  // instruction builder only
  int64_t text_bytes = 0;           // of text behind token_ids
  int64_t dropped_tokens = 0;       // cut off at the context
  // False: nothing of it can be trained on.
  bool has_supervised_tokens = false;
};

// Thread-safe (immutable). Borrows the tokenizer.
class RecordEncoder {
 public:
  // `recipe` has every default resolved. kInvalidArgument for an unknown
  // chat_template.
  static absl::StatusOr<RecordEncoder> Create(const Recipe& recipe,
                                              const Tokenizer* tokenizer);

  // Plain text: begin token, text, end token, each where the tokenizer has one;
  // of any length. Instruction: the chat of system prompt, instruction with
  // input, and output; what is beyond the context is cut off at the end.
  absl::StatusOr<EncodedRecord> Encode(const Record& record) const;
  // Bytes of text that `token_ids` stand for in the middle of a text.
  int64_t CountTextBytes(const std::vector<int32_t>& token_ids) const;

 private:
  RecordEncoder(const Tokenizer* tokenizer, ChatTemplate chat_template,
                std::string system_prompt, int64_t context_tokens)
      : tokenizer_(tokenizer),
        chat_template_(chat_template),
        system_prompt_(std::move(system_prompt)),
        context_tokens_(context_tokens) {}

  absl::StatusOr<EncodedRecord> EncodeText(const std::string& text) const;
  absl::StatusOr<EncodedRecord> EncodeInstruction(const Record& record) const;

  const Tokenizer* tokenizer_;
  ChatTemplate chat_template_;
  std::string system_prompt_;
  int64_t context_tokens_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_RECORD_ENCODER_H_
