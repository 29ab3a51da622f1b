// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors.h"

#include <utility>

#include "common/base/status.h"
#include "common/weights/safetensors_writer.h"
#include "fmt/format.h"

namespace sinklora {

int64_t StoredTensor::num_elements() const {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  return n;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  SL_ASSIGN_OR_RETURN(file->file_, MappedFile::Open(path));
  SL_ASSIGN_OR_RETURN(file->content_,
                      ParseSafetensors(file->file_->data(), path));
  return file;
}

bool IsTorchPickle(std::string_view file) {
  if (file.starts_with("PK\x03\x04")) return true;
  constexpr char kMinProtocol = 2, kMaxProtocol = 5;
  return file.size() >= 2 && file[0] == '\x80' && file[1] >= kMinProtocol &&
         file[1] <= kMaxProtocol;
}

absl::Status TorchPickleError(const std::string& name) {
  return absl::InvalidArgumentError(fmt::format(
      "{} is a torch pickle, not safetensors: loading one can run any code, so "
      "it is never read here; convert it where you trust it, in Python: "
      "safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
      "\"model.safetensors\"), or for a whole model "
      "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)",
      name));
}

absl::Status WriteSafetensors(
    const std::string& path, const std::map<std::string, StoredTensor>& tensors,
    const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.dtype, tensor.shape});
  }
  SL_ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(
                                             path, std::move(specs), metadata));
  for (const TensorSpec& spec : writer->tensors()) {
    SL_RETURN_IF_ERROR(writer->Append(spec.name, tensors.at(spec.name).bytes));
  }
  return writer->Finish();
}

}  // namespace sinklora
