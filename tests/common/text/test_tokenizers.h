// Tokenizers for tests: files written into a directory and loaded from it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_TEXT_TEST_TOKENIZERS_H_
#define SINKLORA_TESTS_COMMON_TEXT_TEST_TOKENIZERS_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/bpe_trainer.h"
#include "common/text/tokenizer.h"

namespace sinklora::testing {

// Loads a directory that has exactly `files`, by name.
inline absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const std::map<std::string, std::string>& files) {
  SL_ASSIGN_OR_RETURN(const auto dir, TempDir::Create());
  for (const auto& [name, content] : files) {
    SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(dir->path(), name), content));
  }
  return Tokenizer::LoadFromDirectory(dir->path());
}

constexpr char kTrainingText[] =
    "the cat sat on the mat, the cat's mat; it's the 3rd of 12 cats they've "
    "seen that day. Das Mädchen hört Flöten, die Mädchen hören Flöten. ";

// A tokenizer.json trained on kTrainingText.
inline std::string SmallTokenizerJson(
    std::vector<std::string> special_tokens = {"<|begin|>", "<|end|>"}) {
  BpeTrainerOptions options;
  options.special_tokens = std::move(special_tokens);
  options.vocab_size = 256 + 40 + options.special_tokens.size();
  return TrainByteLevelBpe({kTrainingText}, options).value();
}

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_COMMON_TEXT_TEST_TOKENIZERS_H_
