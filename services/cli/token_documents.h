// Text files as token ids, for evaluation.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_TOKEN_DOCUMENTS_H_
#define SINKLORA_SERVICES_CLI_TOKEN_DOCUMENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/session.h"

namespace sinklora::cli {

// One text file.
struct TokenDocument {
  std::string path;
  std::vector<int32_t> ids;  // with the begin token where the tokenizer has one
  int64_t text_bytes = 0;    // bytes of text behind all ids
  int64_t first_bytes = 0;   // of these, the bytes behind the first id
};

struct TokenDocuments {
  std::vector<TokenDocument> documents;
  int64_t context_tokens = 0;  // of the target
  std::string
      text_sha256;  // over the SHA-256 of each document's text, in order

  int64_t token_count() const;
  int64_t text_bytes() const;
};

// How much of the text to use; 0 is all of it.
struct TokenLimits {
  int64_t document_tokens = 0;  // the first ones of each document
  int64_t total_tokens = 0;     // the first ones of what that leaves
};

// Tokenizes a file, or all files of a folder in order of path, each as a
// document, within `limits`. Long documents are tokenized in pieces that end at
// line breaks. Documents of fewer than two tokens are left out.
// kInvalidArgument when nothing is left or a file is not UTF-8.
absl::StatusOr<TokenDocuments> ReadTokenDocuments(
    Session* session, InferenceClient* client,
    const inference::v1::Target& target, const std::string& path,
    const TokenLimits& limits);

// Where to cut `text` so that each piece has at most `max_bytes`: after the
// last line break, else between characters.
std::vector<std::string> SplitText(const std::string& text, size_t max_bytes);

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_TOKEN_DOCUMENTS_H_
