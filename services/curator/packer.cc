// SPDX-License-Identifier: Apache-2.0
#include "services/curator/packer.h"

#include <algorithm>

#include "common/base/status.h"

namespace sinklora::curator {

absl::Status Packer::Add(int64_t document, std::span<const int32_t> token_ids) {
  while (!token_ids.empty()) {
    const int64_t length =
        std::min(Free(), static_cast<int64_t>(token_ids.size()));
    const auto segment = token_ids.first(static_cast<size_t>(length));
    current_.token_ids.insert(current_.token_ids.end(), segment.begin(),
                              segment.end());
    current_.supervised.push_back(0);
    current_.supervised.resize(current_.token_ids.size(), 1);
    current_.document_tokens.push_back(length);
    documents_.push_back(document);
    token_ids = token_ids.subspan(static_cast<size_t>(length));
    if (Free() == 0) SL_RETURN_IF_ERROR(Flush());
  }
  return absl::OkStatus();
}

absl::Status Packer::Flush() {
  SL_RETURN_IF_ERROR(sink_(current_));
  current_ = {};
  documents_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Packer::Dropped>> Packer::Finish() {
  if (static_cast<int64_t>(current_.token_ids.size()) >= kMinExampleTokens) {
    SL_RETURN_IF_ERROR(Flush());
  }
  std::vector<Dropped> dropped;
  auto begin = current_.token_ids.begin();
  for (size_t i = 0; i < documents_.size(); ++i) {
    const auto end = begin + current_.document_tokens[i];
    dropped.push_back({documents_[i], std::vector<int32_t>(begin, end)});
    begin = end;
  }
  return dropped;
}

}  // namespace sinklora::curator
