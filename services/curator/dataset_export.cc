// SPDX-License-Identifier: Apache-2.0
#include "services/curator/dataset_export.h"

#include <utility>

#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "services/curator/hashing_writer.h"

namespace sinklora::curator {

absl::Status WriteExamplesAsText(const ExampleReader& examples,
                                 const Tokenizer& tokenizer,
                                 const CancelledFn& cancelled,
                                 const std::string& path) {
  using nlohmann::json;
  SL_ASSIGN_OR_RETURN(const auto writer, HashingWriter::Create(path));
  for (int64_t i = 0; i < examples.example_count(); ++i) {
    if (cancelled()) return absl::CancelledError("export was cancelled");
    SL_ASSIGN_OR_RETURN(const TrainingExample example, examples.Read(i));
    SL_ASSIGN_OR_RETURN(std::string text, tokenizer.Decode(example.token_ids));
    const json line = {{"index", i},
                       {"text", std::move(text)},
                       {"token_ids", example.token_ids},
                       {"supervised", example.supervised},
                       {"document_tokens", example.document_tokens}};
    SL_RETURN_IF_ERROR(
        writer->Append(line.dump(-1, ' ', /*ensure_ascii=*/false,
                                 json::error_handler_t::replace) +
                       "\n"));
  }
  return writer->Finish().status();
}

}  // namespace sinklora::curator
