// Opening a checkpoint of 8 billion parameters: 291 tensors of bf16 in 4
// shards, as sparse files, so that it needs no 16 GB of disk. private_MiB is
// what the whole process holds for itself while the model is open
// (smaps_rollup, Private_Clean + Private_Dirty). Also the passes over weights
// that an import and a load make.
//
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/model_files.h"
#include "common/weights/safetensors.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sinklora {
namespace {

constexpr double kMebibyte = 1 << 20;

constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
  "max_position_embeddings": 8192, "rope_theta": 500000.0,
  "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": false
})";

using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

// A safetensors file of zeros that takes the disk of its header.
absl::Status WriteSparse(const std::string& path, const Shapes& tensors) {
  std::vector<std::string> fields;
  uint64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    const uint64_t end = offset + *StoredBytes(FileDType::kBF16, shape);
    fields.push_back(fmt::format(
        R"("{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})", name,
        fmt::join(shape, ","), offset, end));
    offset = end;
  }
  const std::string header = fmt::format("{{{}}}", fmt::join(fields, ","));
  const uint64_t length = header.size();
  std::string preamble(sizeof length, '\0');
  std::memcpy(preamble.data(), &length, sizeof length);
  SL_RETURN_IF_ERROR(WriteFileAtomic(path, preamble + header));
  const auto size = static_cast<off_t>(preamble.size() + length + offset);
  if (truncate(path.c_str(), size) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a sparse " + path);
  }
  return absl::OkStatus();
}

absl::Status WriteSparseModel(const std::string& directory) {
  constexpr uint64_t kShardBytes = 5'000'000'000;
  constexpr int kShards = 4;
  SL_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(kConfig));
  std::vector<Shapes> shards(1);
  uint64_t bytes = 0;
  for (auto& [name, shape] : LlamaTensors(config)) {
    const uint64_t size = *StoredBytes(FileDType::kBF16, shape);
    if (bytes + size > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().emplace_back(name, shape);
  }
  if (shards.size() != kShards) {
    return absl::InternalError(fmt::format("{} shards", shards.size()));
  }
  std::vector<std::string> map;
  for (int i = 0; i < kShards; ++i) {
    const std::string file =
        fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, kShards);
    SL_RETURN_IF_ERROR(WriteSparse(JoinPath(directory, file), shards[i]));
    for (const auto& [name, shape] : shards[i]) {
      map.push_back(fmt::format("\"{}\":\"{}\"", name, file));
    }
  }
  SL_RETURN_IF_ERROR(WriteFileAtomic(
      JoinPath(directory, "model.safetensors.index.json"),
      fmt::format(R"({{"weight_map":{{{}}}}})", fmt::join(map, ","))));
  return WriteFileAtomic(JoinPath(directory, "config.json"), kConfig);
}

int64_t PrivateBytes() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  int64_t total = 0, kib = 0;
  for (std::string line; std::getline(rollup, line);) {
    if (std::sscanf(line.c_str(), "Private_Clean: %ld kB", &kib) == 1 ||
        std::sscanf(line.c_str(), "Private_Dirty: %ld kB", &kib) == 1) {
      total += kib << 10;
    }
  }
  return total;
}

void OpenCheckpoint(benchmark::State& state) {
  auto dir = TempDir::Create();
  const absl::Status made =
      dir.ok() ? WriteSparseModel((*dir)->path()) : dir.status();
  if (!made.ok()) {
    state.SkipWithError(std::string(made.message()).c_str());
    return;
  }
  int64_t private_bytes = 0;
  uint64_t bytes = 0;
  size_t tensors = 0;
  for (auto _ : state) {
    const auto model = ModelFiles::Open((*dir)->path());
    state.PauseTiming();
    if (!model.ok()) {
      state.SkipWithError(std::string(model.status().message()).c_str());
      return;
    }
    private_bytes = PrivateBytes();
    const std::vector<std::string> names = (*model)->tensor_names();
    tensors = names.size();
    bytes = 0;
    for (const std::string& name : names) {
      bytes += (*model)->tensor(name)->bytes.size();
    }
    state.ResumeTiming();
  }
  state.counters["tensors"] = static_cast<double>(tensors);
  state.counters["GB"] = static_cast<double>(bytes) / 1e9;
  state.counters["private_MiB"] =
      static_cast<double>(private_bytes) / kMebibyte;
}
BENCHMARK(OpenCheckpoint)->Unit(benchmark::kMillisecond);

constexpr int64_t kElements = int64_t{64} << 20;

std::string Ones(FileDType dtype) {
  const std::vector<float> ones(kElements, 1.0f);
  return std::string(TensorBytes(ones.data(), {kElements}, dtype).view().bytes);
}

void CheckFinite(benchmark::State& state, FileDType dtype) {
  const std::string bytes = Ones(dtype);
  const StoredTensor tensor{dtype, {kElements}, bytes};
  for (auto _ : state) benchmark::DoNotOptimize(FirstNonFinite(tensor));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(bytes.size()));
}
BENCHMARK_CAPTURE(CheckFinite, bf16, FileDType::kBF16)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(CheckFinite, f32, FileDType::kF32)
    ->Unit(benchmark::kMillisecond);

void ConvertToF32(benchmark::State& state) {
  const std::string bytes = Ones(FileDType::kBF16);
  const StoredTensor tensor{FileDType::kBF16, {kElements}, bytes};
  for (auto _ : state) benchmark::DoNotOptimize(ToF32(tensor));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(bytes.size()));
}
BENCHMARK(ConvertToF32)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sinklora

BENCHMARK_MAIN();
