// A safetensors file from elsewhere: the header's checks hold, and the views it
// hands out can be read to their last byte.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors.h"
#include "tests/fuzz/fuzz_check.h"

using sinklora::FileDType;
using sinklora::StoredTensor;

namespace {

void CheckTensor(const StoredTensor& tensor) {
  FUZZ_CHECK(tensor.bytes.size() ==
             sinklora::StoredBytes(tensor.dtype, tensor.shape));
  const auto non_finite = sinklora::FirstNonFinite(tensor);
  const auto values = sinklora::ToF32(tensor);
  FUZZ_CHECK(values.ok() == sinklora::IsFloat(tensor.dtype));
  if (!values.ok()) return;
  FUZZ_CHECK(static_cast<int64_t>(values->size()) == tensor.num_elements());
  int64_t first = 0;
  for (const float value : *values) {
    if (!(value - value == 0)) break;
    ++first;
  }
  FUZZ_CHECK(non_finite.value_or(tensor.num_elements()) == first);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto content = sinklora::ParseSafetensors(file, "a/file");
  if (!content.ok()) {
    sinklora::fuzz::CheckRefusal(content.status(), "a/file");
    return 0;
  }
  size_t bytes = 0;
  for (const auto& [name, tensor] : content->tensors) {
    CheckTensor(tensor);
    bytes += tensor.bytes.size();
  }
  FUZZ_CHECK(bytes < size);
  return 0;
}
