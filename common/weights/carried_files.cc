// SPDX-License-Identifier: Apache-2.0
#include "common/weights/carried_files.h"

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/model_directory.h"

namespace sinklora {
namespace {

constexpr const char* kCarriedFiles[] = {
    "tokenizer.json",    "tokenizer.model",         "tokenizer_config.json",
    "added_tokens.json", "special_tokens_map.json", "vocab.json",
    "merges.txt",        "generation_config.json",  "chat_template.jinja",
    "chat_template.json"};

}  // namespace

absl::Status CopyCarriedFiles(const std::string& from, const std::string& to) {
  for (const char* file : kCarriedFiles) {
    const auto content = ReadModelFile(from, file);
    if (absl::IsNotFound(content.status())) continue;
    SL_RETURN_IF_ERROR(content.status());
    SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(to, file), *content));
  }
  return absl::OkStatus();
}

}  // namespace sinklora
