// Encoding and decoding speed on real books, for each kind of tokenizer.
//
//   tokenizer_bench [DIR...]
//
// Tokenizer directories; without any, those that the shared inputs folder has
// files for. Books: *.txt below SINKLORA_BENCH_BOOKS (default: the shared
// books), each encoded as one string; /long is all of them as one.
//
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/files.h"
#include "common/text/tokenizer.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::json;

std::string Env(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

std::string SharedDir() { return Env("SINKLORA_SHARED_DIR", "../shared"); }

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  fmt::print(stderr, "{}\n", std::string(value.status().message()));
  std::exit(1);
}

const std::vector<std::string>& Books() {
  static const auto& books = *new std::vector<std::string>([] {
    std::vector<std::string> texts;
    const std::string dir =
        Env("SINKLORA_BENCH_BOOKS", JoinPath(SharedDir(), "data/books"));
    for (const std::string& file : OrDie(ListFilesRecursive(dir))) {
      if (!file.ends_with(".txt")) continue;
      texts.push_back(OrDie(ReadFile(JoinPath(dir, file))));
    }
    return texts;
  }());
  return books;
}

void Encode(benchmark::State& state, const Tokenizer* tokenizer) {
  int64_t bytes = 0;
  int64_t tokens = 0;
  for (auto _ : state) {
    for (const std::string& book : Books()) {
      tokens += static_cast<int64_t>(OrDie(tokenizer->Encode(book)).size());
      bytes += static_cast<int64_t>(book.size());
    }
  }
  state.SetBytesProcessed(bytes);
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(tokens),
                                                  benchmark::Counter::kIsRate);
}

void EncodeLong(benchmark::State& state, const Tokenizer* tokenizer) {
  std::string all;
  for (const std::string& book : Books()) all += book;
  for (auto _ : state) {
    benchmark::DoNotOptimize(OrDie(tokenizer->Encode(all)));
  }
  state.SetBytesProcessed(static_cast<int64_t>(all.size()) *
                          static_cast<int64_t>(state.iterations()));
}

void Decode(benchmark::State& state, const Tokenizer* tokenizer) {
  const std::vector<int32_t> ids = OrDie(tokenizer->Encode(Books()[0]));
  for (auto _ : state) {
    benchmark::DoNotOptimize(OrDie(tokenizer->Decode(ids)));
  }
  state.SetBytesProcessed(static_cast<int64_t>(Books()[0].size()) *
                          static_cast<int64_t>(state.iterations()));
}

// GPT-2's own two files as one tokenizer.json.
std::string Gpt2Json(const std::string& dir) {
  const json vocab =
      json::parse(OrDie(ReadFile(JoinPath(dir, "gpt2-vocab.json"))));
  json merges = json::array();
  std::istringstream lines(OrDie(ReadFile(JoinPath(dir, "gpt2-merges.txt"))));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  const json part = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  return json{
      {"pre_tokenizer", part},
      {"decoder", part},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}}
      .dump();
}

// The shared files, each as a directory of its own below `root`.
std::vector<std::string> SharedTokenizers(const std::string& root) {
  const std::string dir = JoinPath(SharedDir(), "tokenizers");
  std::map<std::string, std::pair<std::string, std::string>> files = {
      {"llama2_sentencepiece", {"tokenizer.model", "llama2-tokenizer.model"}},
      {"llama2_json", {"tokenizer.json", "llama2-tokenizer.json"}},
      {"llama3_json", {"tokenizer.json", "llama3-tokenizer.json"}},
      {"llama3_tiktoken", {"tokenizer.model", "llama3-tokenizer.model"}},
      {"gpt2_json", {"tokenizer.json", ""}}};
  std::vector<std::string> out;
  for (const auto& [name, file] : files) {
    const std::string content =
        file.second.empty() ? Gpt2Json(dir)
                            : OrDie(ReadFile(JoinPath(dir, file.second)));
    out.push_back(JoinPath(root, name));
    for (const absl::Status& status :
         {MakeDirs(out.back()),
          WriteFileAtomic(JoinPath(out.back(), file.first), content)}) {
      if (!status.ok()) OrDie(absl::StatusOr<int>(status));
    }
  }
  return out;
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  using namespace sinklora;  // NOLINT: a main file
  benchmark::Initialize(&argc, argv);
  const auto scratch = OrDie(TempDir::Create());
  std::vector<std::string> dirs(argv + 1, argv + argc);
  if (dirs.empty()) dirs = SharedTokenizers(scratch->path());
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const std::string& dir : dirs) {
    tokenizers.push_back(OrDie(Tokenizer::LoadFromDirectory(dir)));
    const Tokenizer* tokenizer = tokenizers.back().get();
    const std::string name = std::filesystem::path(dir).filename().string();
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), Encode, tokenizer)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("encode/" + name + "/long").c_str(),
                                 EncodeLong, tokenizer)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), Decode, tokenizer)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
