// Writes the seed inputs that are made, not found: small safetensors files and
// an index, with the tensor names and types of the sample model.
// Usage: fuzz_make_seeds SAMPLE_MODEL_DIRECTORY OUT_DIRECTORY, which gets a
// folder for each target.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/weights/safetensors_writer.h"
#include "common/weights/weight_index.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

using Specs = std::vector<TensorSpec>;

template <typename Writer>
absl::Status WriteZeros(const absl::StatusOr<std::unique_ptr<Writer>>& writer) {
  SL_RETURN_IF_ERROR(writer.status());
  for (const TensorSpec& spec : (*writer)->tensors()) {
    const std::string zeros(*StoredBytes(spec.dtype, spec.shape), '\0');
    SL_RETURN_IF_ERROR((*writer)->Append(spec.name, zeros));
  }
  return (*writer)->Finish();
}

// The tensors of the model, cut to 2 in each dimension.
absl::StatusOr<Specs> SmallCopy(const std::string& model) {
  SL_ASSIGN_OR_RETURN(const ModelWeights weights, OpenModelWeights(model));
  Specs specs;
  for (const auto& [name, found] : weights.tensors) {
    std::vector<int64_t> shape = found.tensor.shape;
    for (int64_t& dim : shape) dim = std::min<int64_t>(dim, 2);
    specs.push_back({name, found.tensor.dtype, shape});
  }
  return specs;
}

absl::Status WriteSeeds(const std::string& model, const std::string& out) {
  const std::string files = JoinPath(out, "safetensors");
  const std::string shards = JoinPath(out, "shards");
  const std::string index = JoinPath(out, "weight_index");
  for (const std::string& dir : {files, shards, index}) {
    SL_RETURN_IF_ERROR(MakeDirs(dir));
  }
  SL_ASSIGN_OR_RETURN(const Specs specs, SmallCopy(model));
  SL_RETURN_IF_ERROR(WriteZeros(SafetensorsWriter::Create(
      JoinPath(files, "model"), specs, {{"format", "pt"}})));
  Specs types;
  for (int i = 0; i <= static_cast<int>(FileDType::kU64); ++i) {
    const auto dtype = static_cast<FileDType>(i);
    types.push_back({FileDTypeName(dtype), dtype, {4, 2}});
    const Specs one = {{"t", dtype, {8}}, {"empty", dtype, {0, 3}}};
    SL_RETURN_IF_ERROR(WriteZeros(SafetensorsWriter::Create(
        JoinPath(files, FileDTypeName(dtype)), one, {})));
  }
  SL_RETURN_IF_ERROR(WriteZeros(
      SafetensorsWriter::Create(JoinPath(files, "types"), types, {})));
  SL_RETURN_IF_ERROR(WriteZeros(SafetensorsWriter::Create(
      JoinPath(files, "scalar"), {{"s", FileDType::kBF16, {}}}, {})));
  SL_RETURN_IF_ERROR(WriteZeros(
      SafetensorsWriter::Create(JoinPath(files, "nothing"), {}, {{"a", "b"}})));
  constexpr uint64_t kShardBytes = 64;
  SL_RETURN_IF_ERROR(
      WriteZeros(ModelWeightsWriter::Create(shards, specs, {}, kShardBytes)));
  SL_ASSIGN_OR_RETURN(const std::string text,
                      ReadFile(JoinPath(shards, kWeightIndexFile)));
  return WriteFileAtomic(JoinPath(index, "shards.json"), text);
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s SAMPLE_MODEL_DIRECTORY OUT_DIRECTORY\n",
                 argv[0]);
    return 2;
  }
  const absl::Status status = sinklora::WriteSeeds(argv[1], argv[2]);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  }
  return status.ok() ? 0 : 1;
}
