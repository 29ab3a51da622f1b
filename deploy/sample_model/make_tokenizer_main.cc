// sinklora-make-tokenizer: trains a byte-level BPE tokenizer on text files.
//
// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/text/bpe_trainer.h"
#include "common/text/utf8.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace {

constexpr char kUsage[] =
    R"(Trains a byte-level BPE tokenizer on text files.

  sinklora-make-tokenizer --out DIR [--vocab-size N] FILE...

  --out DIR        writes tokenizer.json and tokenizer_config.json there
  --vocab-size N   tokens in all, with 256 bytes and 2 special tokens (4096)
)";

}  // namespace

namespace sinklora {
namespace {

std::string TokenizerConfig(const BpeTrainerOptions& options) {
  nlohmann::ordered_json config;
  config["add_prefix_space"] = false;
  config["bos_token"] = options.special_tokens.at(0);
  config["clean_up_tokenization_spaces"] = false;
  config["eos_token"] = options.special_tokens.at(1);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config.dump(2) + "\n";
}

absl::Status Run(const std::string& out, int32_t vocab_size,
                 const std::vector<std::string>& files) {
  if (out.empty()) return absl::InvalidArgumentError("--out is required");
  if (files.empty()) return absl::InvalidArgumentError("no text file given");
  BpeTrainerOptions options;
  options.vocab_size = vocab_size;
  std::vector<std::string> texts;
  size_t bytes = 0;
  for (const std::string& file : files) {
    SL_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
    texts.push_back(NormalizeNewlines(text));
    bytes += texts.back().size();
    const size_t invalid = FindInvalidUtf8(texts.back());
    if (invalid != std::string_view::npos) {
      return absl::InvalidArgumentError(
          fmt::format("{}: not valid UTF-8 at offset {}", file, invalid));
    }
  }
  SL_ASSIGN_OR_RETURN(const std::string json,
                      TrainByteLevelBpe(texts, options));
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(out, "tokenizer_config.json"),
                                     TokenizerConfig(options)));
  SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(out, "tokenizer.json"), json));
  fmt::print("{}: {} tokens from {} files, {} bytes\n", out, vocab_size,
             files.size(), bytes);
  return absl::OkStatus();
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  constexpr option kOptions[] = {
      {"out", required_argument, nullptr, 'o'},
      {"vocab-size", required_argument, nullptr, 'v'},
      {"help", no_argument, nullptr, 'h'},
      {nullptr, 0, nullptr, 0}};
  std::string out;
  int32_t vocab_size = 4096;
  int choice = 0;
  while ((choice = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    if (choice == 'o') {
      out = optarg;
    } else if (choice == 'v' && absl::SimpleAtoi(optarg, &vocab_size)) {
      continue;
    } else {
      fmt::print(choice == 'h' ? stdout : stderr, "{}", kUsage);
      return choice == 'h' ? 0 : 2;
    }
  }
  const absl::Status status = sinklora::Run(
      out, vocab_size, std::vector<std::string>(argv + optind, argv + argc));
  if (status.ok()) return 0;
  fmt::print(stderr, "sinklora-make-tokenizer: {}\n",
             std::string(status.message()));
  return 1;
}
