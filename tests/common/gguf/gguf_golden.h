// The files that tests/parity/make_gguf_goldens.py made with gguf-py,
// transformers and llama.cpp's converter.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_COMMON_GGUF_GGUF_GOLDEN_H_
#define SINKLORA_TESTS_COMMON_GGUF_GGUF_GOLDEN_H_

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/base/files.h"
#include "common/gguf/gguf_file.h"

namespace sinklora::testing {

inline std::string GgufGolden(const std::string& name) {
  const char* root = std::getenv("SINKLORA_SOURCE_DIR");
  return JoinPath(root == nullptr ? "." : root,
                  "tests/common/gguf/testdata/" + name);
}

// nullptr when there is none.
inline const GgufTensor* FindTensor(const GgufFile& file,
                                    std::string_view name) {
  const auto it =
      std::find_if(file.tensors().begin(), file.tensors().end(),
                   [name](const GgufTensor& t) { return t.name == name; });
  return it == file.tensors().end() ? nullptr : &*it;
}

}  // namespace sinklora::testing

#endif  // SINKLORA_TESTS_COMMON_GGUF_GGUF_GOLDEN_H_
