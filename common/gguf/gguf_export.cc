// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/gguf/gguf.h"
#include "common/gguf/gguf_model_metadata.h"
#include "common/gguf/gguf_quants.h"
#include "common/gguf/gguf_rope.h"
#include "common/gguf/gguf_tensor_names.h"
#include "common/gguf/gguf_vocabulary.h"
#include "common/gguf/gguf_writer.h"
#include "common/text/json.h"
#include "common/text/vocabulary_view.h"
#include "common/weights/model_files.h"
#include "fmt/format.h"

namespace sinklora {
namespace {

// Elements that are converted at a time.
constexpr int64_t kChunkElements = int64_t{1} << 20;

struct ExportedTensor {
  std::string hugging_face_name;
  std::string name;
  GgmlType type;
  std::vector<int64_t> shape;
};

// What the model calls itself, or the directory's name.
absl::StatusOr<std::string> ModelName(const ModelFiles& model) {
  const std::string what = JoinPath(model.directory(), "config.json");
  SL_ASSIGN_OR_RETURN(const auto config,
                      ParseJsonObject(model.config_json(), what));
  SL_ASSIGN_OR_RETURN(const auto given,
                      GetString(config, "_name_or_path", what));
  for (std::filesystem::path path :
       {std::filesystem::path(given.value_or("")),
        std::filesystem::path(model.directory())}) {
    if (!path.has_filename()) path = path.parent_path();  // "a/b/"
    const std::string name = path.filename();
    if (!name.empty() && name != "." && name != "..") return name;
  }
  return std::string("model");
}

absl::StatusOr<std::vector<ExportedTensor>> ListTensors(const ModelFiles& model,
                                                        GgufFileType type) {
  std::vector<ExportedTensor> tensors;
  for (auto& [name, shape] : LlamaTensors(model.config())) {
    const std::optional<std::string> gguf_name = GgufTensorName(name);
    if (!gguf_name) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor '{}' has no place in GGUF", model.directory(), name));
    }
    // As llama.cpp expects it.
    const GgmlType stored =
        shape.size() == 1 ? GgmlType::kF32 : MatrixType(type);
    tensors.push_back({name, *gguf_name, stored, std::move(shape)});
  }
  return tensors;
}

// Writes the rows of a tensor, some at a time.
class TensorExporter {
 public:
  TensorExporter(const ExportedTensor& tensor, const StoredTensor& stored,
                 int64_t rotated_head_dim, std::string what)
      : tensor_(tensor),
        stored_(stored),
        head_dim_(rotated_head_dim),
        what_(std::move(what)) {
    rows_ = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
    columns_ = tensor.shape.back();
    if (rows_ > 0) row_bytes_ = stored.bytes.size() / rows_;
  }

  absl::Status Run(GgufWriter* writer) {
    const int64_t step = std::max<int64_t>(1, kChunkElements / columns_);
    std::string encoded;
    for (int64_t row = 0; row < rows_; row += step) {
      const int64_t count = std::min(step, rows_ - row);
      SL_ASSIGN_OR_RETURN(
          const std::vector<float> values,
          ToF32({stored_.dtype, {count, columns_}, Rows(row, count)}));
      encoded.clear();
      SL_RETURN_IF_ERROR(EncodeGguf(values, tensor_.type, what_, &encoded));
      SL_RETURN_IF_ERROR(writer->Append(tensor_.name, encoded));
    }
    return absl::OkStatus();
  }

 private:
  // Source bytes of `count` rows of the file to write.
  std::string_view Rows(int64_t row, int64_t count) {
    if (head_dim_ == 0) {
      return stored_.bytes.substr(row * row_bytes_, count * row_bytes_);
    }
    gathered_.clear();
    for (int64_t i = row; i < row + count; ++i) {
      gathered_.append(stored_.bytes.substr(
          HuggingFaceRow(i, head_dim_) * row_bytes_, row_bytes_));
    }
    return gathered_;
  }

  const ExportedTensor& tensor_;
  const StoredTensor& stored_;
  const int64_t head_dim_;  // 0: rows keep their order
  const std::string what_;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  uint64_t row_bytes_ = 0;
  std::string gathered_;
};

absl::Status ExportTensor(const ModelFiles& model, bool rotates,
                          const ExportedTensor& tensor, GgufWriter* writer) {
  SL_ASSIGN_OR_RETURN(const StoredTensor stored,
                      model.tensor(tensor.hugging_face_name));
  const bool rotated = rotates && IsRotated(tensor.hugging_face_name);
  // The elements of a rotated bias move like the rows of its matrix.
  ExportedTensor rows = tensor;
  if (rotated && tensor.shape.size() == 1) rows.shape.push_back(1);
  return TensorExporter(rows, stored, rotated ? model.config().head_dim : 0,
                        fmt::format("{}: tensor '{}'", model.directory(),
                                    tensor.hugging_face_name))
      .Run(writer);
}

}  // namespace

absl::Status WriteGguf(const std::string& model_directory, GgufFileType type,
                       const std::string& out_path) {
  SL_ASSIGN_OR_RETURN(const auto model, ModelFiles::Open(model_directory));
  SL_ASSIGN_OR_RETURN(const VocabularyView vocabulary,
                      ReadVocabularyView(model_directory));
  const LlamaConfig& config = model->config();
  const std::string what = JoinPath(model_directory, "config.json");
  SL_ASSIGN_OR_RETURN(const std::string name, ModelName(*model));
  SL_ASSIGN_OR_RETURN(const std::string architecture,
                      GgufArchitecture(config, what));
  GgufHeader header;
  SL_RETURN_IF_ERROR(AddModelMetadata(config, name, type, what, &header));
  SL_RETURN_IF_ERROR(
      AddVocabulary(vocabulary, config.vocab_size, model_directory, &header));

  const std::vector<float> rope_freqs = RopeFreqs(config);
  if (!rope_freqs.empty()) {
    SL_RETURN_IF_ERROR(
        header.AddTensor(kRopeFreqsTensor, GgmlType::kF32,
                         {static_cast<int64_t>(rope_freqs.size())}));
  }
  SL_ASSIGN_OR_RETURN(const std::vector<ExportedTensor> tensors,
                      ListTensors(*model, type));
  for (const ExportedTensor& tensor : tensors) {
    const absl::Status added =
        header.AddTensor(tensor.name, tensor.type, tensor.shape);
    if (!added.ok()) return Annotate(added, model_directory);
  }
  SL_ASSIGN_OR_RETURN(const auto writer,
                      GgufWriter::Create(out_path, std::move(header)));
  if (!rope_freqs.empty()) {
    const std::string_view bytes(
        reinterpret_cast<const char*>(rope_freqs.data()),
        rope_freqs.size() * sizeof(float));
    SL_RETURN_IF_ERROR(writer->Append(kRopeFreqsTensor, bytes));
  }
  for (const ExportedTensor& tensor : tensors) {
    SL_RETURN_IF_ERROR(
        ExportTensor(*model, architecture == "llama", tensor, writer.get()));
  }
  return writer->Finish();
}

}  // namespace sinklora
