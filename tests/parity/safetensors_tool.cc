// Our reader and writer for check_safetensors.py.
//   copy IN OUT                      a file, read and written
//   shard IN_DIR OUT_DIR MAX_BYTES   a model's weights, in shards
//   verdicts FILE...                 "ok" or why not, a line each
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/weights/safetensors.h"
#include "common/weights/safetensors_writer.h"
#include "common/weights/weight_index.h"

namespace sinklora {
namespace {

absl::Status Copy(const std::string& in, const std::string& out) {
  SL_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(in));
  return WriteSafetensors(out, file->tensors(), file->metadata());
}

absl::Status Shard(const std::string& in, const std::string& out,
                   uint64_t max_bytes) {
  SL_ASSIGN_OR_RETURN(const ModelWeights weights, OpenModelWeights(in));
  std::vector<TensorSpec> specs;
  for (const auto& [name, found] : weights.tensors) {
    specs.push_back({name, found.tensor.dtype, found.tensor.shape});
  }
  SL_RETURN_IF_ERROR(MakeDirs(out));
  SL_ASSIGN_OR_RETURN(const auto writer, ModelWeightsWriter::Create(
                                             out, std::move(specs),
                                             {{"format", "pt"}}, max_bytes));
  for (const TensorSpec& spec : writer->tensors()) {
    SL_RETURN_IF_ERROR(
        writer->Append(spec.name, weights.tensors.at(spec.name).tensor.bytes));
  }
  return writer->Finish();
}

void Verdict(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  std::printf("%s\n",
              file.ok() ? "ok" : std::string(file.status().message()).c_str());
}

int Main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  absl::Status status = absl::InvalidArgumentError("see the top of the source");
  if (command == "copy" && argc == 4) status = Copy(argv[2], argv[3]);
  if (command == "shard" && argc == 5) {
    status = Shard(argv[2], argv[3], std::strtoull(argv[4], nullptr, 10));
  }
  if (command == "verdicts") {
    for (int i = 2; i < argc; ++i) Verdict(argv[i]);
    status = absl::OkStatus();
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace sinklora

int main(int argc, char** argv) { return sinklora::Main(argc, argv); }
