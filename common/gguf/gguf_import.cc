// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "common/gguf/gguf_file.h"
#include "common/gguf/gguf_model_metadata.h"
#include "common/gguf/gguf_quants.h"
#include "common/gguf/gguf_tensor_names.h"
#include "common/gguf/gguf_vocabulary.h"
#include "common/gguf/tokenizer_files.h"
#include "common/text/tokenizer.h"
#include "common/weights/model_files.h"
#include "common/weights/safetensors_writer.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace sinklora {
namespace {

using nlohmann::ordered_json;

// Elements that are converted at a time.
constexpr int64_t kChunkElements = int64_t{1} << 20;

struct ImportedTensor {
  const GgufTensor* source = nullptr;
  TensorSpec spec;
  int64_t rotated_head_dim = 0;  // 0: rows keep their order
};

std::string Label(const GgufFile& file, const GgufTensor& tensor) {
  return fmt::format("{}: tensor '{}'", file.what(), tensor.name);
}

FileDType MatrixDType(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return FileDType::kF32;
    case GgmlType::kF16:
      return FileDType::kF16;
    case GgmlType::kBf16:
    case GgmlType::kQ80:
      break;
  }
  return FileDType::kBF16;
}

GgmlType ToGgml(FileDType dtype) {
  if (dtype == FileDType::kF32) return GgmlType::kF32;
  return dtype == FileDType::kF16 ? GgmlType::kF16 : GgmlType::kBf16;
}

absl::StatusOr<std::vector<float>> Values(const GgufFile& file,
                                          const GgufTensor& tensor,
                                          std::string_view bytes,
                                          int64_t count) {
  if (tensor.type != GgmlType::kQ80) {
    return ToF32({MatrixDType(tensor.type), {count}, bytes});
  }
  std::vector<float> values(count);
  SL_RETURN_IF_ERROR(DecodeQ80(bytes, Label(file, tensor), values.data()));
  return values;
}

// Vectors are F32 in every file. They get the type of the matrices where that
// loses nothing: then it is what they were made from.
absl::StatusOr<FileDType> VectorDType(const GgufFile& file,
                                      const GgufTensor& tensor,
                                      FileDType matrices) {
  const int64_t count = tensor.shape[0];
  SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                      Values(file, tensor, tensor.bytes, count));
  std::string narrow;
  const absl::Status fits =
      EncodeGguf(values, ToGgml(matrices), Label(file, tensor), &narrow);
  if (!fits.ok()) return FileDType::kF32;
  SL_ASSIGN_OR_RETURN(const std::vector<float> back,
                      ToF32({matrices, {count}, narrow}));
  return back == values ? matrices : FileDType::kF32;
}

absl::StatusOr<std::map<std::string, const GgufTensor*>> ByHuggingFaceName(
    const GgufFile& file) {
  std::map<std::string, const GgufTensor*> tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name == kRopeFreqsTensor) continue;  // part of config.json
    const auto name = HuggingFaceTensorName(tensor.name);
    if (!name) {
      return absl::InvalidArgumentError(Label(file, tensor) +
                                        " is not known, or not supported");
    }
    tensors[*name] = &tensor;
  }
  return tensors;
}

absl::StatusOr<std::vector<ImportedTensor>> ListTensors(
    const GgufFile& file, const LlamaConfig& config, bool rotates) {
  SL_ASSIGN_OR_RETURN(auto sources, ByHuggingFaceName(file));
  std::vector<ImportedTensor> tensors;
  FileDType matrices = FileDType::kF32;
  for (auto& [name, shape] : LlamaTensors(config)) {
    const auto it = sources.find(name);
    if (it == sources.end()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is missing", file.what(),
                      GgufTensorName(name).value_or(name)));
    }
    const GgufTensor& source = *it->second;
    if (source.shape != shape) {
      return absl::InvalidArgumentError(fmt::format(
          "{} has shape {}, the metadata makes it {}", Label(file, source),
          ShapeToString(source.shape), ShapeToString(shape)));
    }
    ImportedTensor tensor{&source, {name, FileDType::kF32, shape}, 0};
    if (shape.size() == 1) {
      SL_ASSIGN_OR_RETURN(tensor.spec.dtype,
                          VectorDType(file, source, matrices));
    } else {
      tensor.spec.dtype = MatrixDType(source.type);
    }
    // The embedding comes first.
    if (tensors.empty()) matrices = tensor.spec.dtype;
    if (rotates && IsRotated(name)) tensor.rotated_head_dim = config.head_dim;
    tensors.push_back(std::move(tensor));
    sources.erase(it);
  }
  if (!sources.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not part of a model with this metadata",
                    Label(file, *sources.begin()->second)));
  }
  return tensors;
}

// Writes the rows of a tensor, some at a time.
absl::Status ImportTensor(const GgufFile& file, const ImportedTensor& tensor,
                          ModelWeightsWriter* writer) {
  const GgufTensor& source = *tensor.source;
  // The elements of a rotated bias move like the rows of its matrix.
  const bool by_element = source.shape.size() == 1 && tensor.rotated_head_dim;
  const int64_t columns = by_element ? 1 : source.shape.back();
  const int64_t rows =
      source.shape.size() == 1 && !by_element ? 1 : source.shape[0];
  const uint64_t row_bytes = source.bytes.size() / rows;
  const int64_t step = std::max<int64_t>(1, kChunkElements / columns);
  std::string bytes, out;
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    bytes.clear();
    for (int64_t i = row; i < row + count; ++i) {
      const int64_t from = tensor.rotated_head_dim == 0
                               ? i
                               : GgufRow(i, tensor.rotated_head_dim);
      bytes.append(source.bytes.substr(from * row_bytes, row_bytes));
    }
    SL_ASSIGN_OR_RETURN(const std::vector<float> values,
                        Values(file, source, bytes, count * columns));
    out.clear();
    SL_RETURN_IF_ERROR(EncodeGguf(values, ToGgml(tensor.spec.dtype),
                                  Label(file, source), &out));
    SL_RETURN_IF_ERROR(writer->Append(tensor.spec.name, out));
  }
  return absl::OkStatus();
}

absl::Status WriteWeights(const GgufFile& file,
                          const std::vector<ImportedTensor>& tensors,
                          const std::string& directory) {
  std::map<std::string_view, const ImportedTensor*> by_name;
  std::vector<TensorSpec> specs;
  for (const ImportedTensor& tensor : tensors) {
    by_name[tensor.spec.name] = &tensor;
    specs.push_back(tensor.spec);
  }
  SL_ASSIGN_OR_RETURN(const auto writer,
                      ModelWeightsWriter::Create(directory, std::move(specs),
                                                 {{"format", "pt"}}));
  for (const TensorSpec& spec : writer->tensors()) {
    SL_RETURN_IF_ERROR(
        ImportTensor(file, *by_name.at(spec.name), writer.get()));
  }
  return writer->Finish();
}

absl::Status WriteConfigs(const LlamaConfig& config, FileDType dtype,
                          const VocabularyView& vocabulary,
                          const std::string& directory) {
  ordered_json model = ordered_json::parse(ToJson(config), nullptr, false);
  model["torch_dtype"] = dtype == FileDType::kF32   ? "float32"
                         : dtype == FileDType::kF16 ? "float16"
                                                    : "bfloat16";
  if (vocabulary.padding_id) model["pad_token_id"] = *vocabulary.padding_id;
  SL_RETURN_IF_ERROR(WriteFileAtomic(JoinPath(directory, "config.json"),
                                     model.dump(2) + "\n"));
  ordered_json generation = ordered_json::object();
  if (vocabulary.bos_id) generation["bos_token_id"] = *vocabulary.bos_id;
  if (vocabulary.eos_id) generation["eos_token_id"] = *vocabulary.eos_id;
  if (vocabulary.padding_id) {
    generation["pad_token_id"] = *vocabulary.padding_id;
  }
  return WriteFileAtomic(JoinPath(directory, "generation_config.json"),
                         generation.dump(2) + "\n");
}

absl::Status WriteDirectory(const GgufFile& file,
                            const std::string& directory) {
  SL_ASSIGN_OR_RETURN(LlamaConfig config, ParseModelMetadata(file));
  SL_ASSIGN_OR_RETURN(const VocabularyView vocabulary, ParseVocabulary(file));
  if (static_cast<int64_t>(vocabulary.pieces.size()) > config.vocab_size) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: the vocabulary has {} tokens, tensor 'token_embd.weight' has {} "
        "rows",
        file.what(), vocabulary.pieces.size(), config.vocab_size));
  }
  config.bos_token_id = vocabulary.bos_id;
  config.eos_token_id = vocabulary.eos_id;
  const bool rotates =
      config.model_type == "llama" || config.model_type == "mistral";
  SL_ASSIGN_OR_RETURN(const std::vector<ImportedTensor> tensors,
                      ListTensors(file, config, rotates));
  SL_RETURN_IF_ERROR(
      WriteConfigs(config, tensors.front().spec.dtype, vocabulary, directory));
  SL_RETURN_IF_ERROR(
      WriteTokenizerFiles(vocabulary, config.context_tokens(), directory));
  SL_RETURN_IF_ERROR(WriteWeights(file, tensors, directory));
  // What was written must be what is read.
  const auto model = ModelFiles::Open(directory);
  if (!model.ok()) return Annotate(model.status(), file.what());
  return Annotate(Tokenizer::LoadFromDirectory(directory).status(),
                  file.what());
}

}  // namespace

absl::Status ImportGguf(const std::string& gguf_path,
                        const std::string& out_directory) {
  if (FileExists(out_directory)) {
    return absl::AlreadyExistsError(out_directory + " exists");
  }
  SL_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(gguf_path));
  const std::string parent =
      std::filesystem::absolute(out_directory + "/..").lexically_normal();
  SL_RETURN_IF_ERROR(MakeDirs(parent));
  SL_ASSIGN_OR_RETURN(const auto staging, TempDir::Create(parent));
  const std::string staged = JoinPath(staging->path(), "model");
  SL_RETURN_IF_ERROR(MakeDirs(staged));
  SL_RETURN_IF_ERROR(WriteDirectory(*file, staged));
  return CommitDirectory(staged, out_directory);
}

}  // namespace sinklora
