// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/inputs.h"

#include <fmt/format.h>

#include <string_view>

#include "common/base/files.h"
#include "common/base/status.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {

absl::Status WriteTextDocuments(const std::string& directory, int count) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  const std::string text(TinyModelText());
  for (int i = 0; i < count; ++i) {
    // Starting elsewhere makes each document a different sequence of the same
    // words.
    size_t cut = text.find(
        ' ', text.size() * static_cast<size_t>(i) / static_cast<size_t>(count));
    if (cut == std::string::npos) cut = 0;
    SL_RETURN_IF_ERROR(
        WriteFileAtomic(JoinPath(directory, fmt::format("doc-{:02}.txt", i)),
                        fmt::format("Document {}.\n{}{}\n", i, text.substr(cut),
                                    text.substr(0, cut))));
  }
  return absl::OkStatus();
}

absl::Status WriteSmallModel(const std::string& directory) {
  return WriteTinyModel(directory, TinyModelOptions());
}

}  // namespace sinklora::testing
