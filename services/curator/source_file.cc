// SPDX-License-Identifier: Apache-2.0
#include "services/curator/source_file.h"

#include <fmt/format.h>

#include "common/base/hash.h"
#include "common/base/status.h"

namespace sinklora::curator {

absl::StatusOr<std::unique_ptr<SourceWriter>> SourceWriter::Create(
    const std::string& path) {
  SL_ASSIGN_OR_RETURN(auto writer, HashingWriter::Create(path));
  return std::unique_ptr<SourceWriter>(new SourceWriter(std::move(writer)));
}

absl::Status SourceWriter::Add(const Record& record) {
  ++record_count_;
  text_bytes_ += TextBytes(record);
  return writer_->Append(RecordToLine(record));
}

absl::StatusOr<std::string> SourceWriter::Finish() { return writer_->Finish(); }

absl::StatusOr<std::unique_ptr<SourceReader>> SourceReader::Open(
    const std::string& path, const std::string& digest) {
  auto file = MappedFile::Open(path);
  if (absl::IsNotFound(file.status())) {
    return absl::DataLossError(std::string(file.status().message()));
  }
  SL_RETURN_IF_ERROR(file.status());
  const std::string_view data = (*file)->data();
  const std::string found = Sha256Hex(data);
  if (found != digest) {
    return absl::DataLossError(fmt::format(
        "{} is damaged: its SHA-256 is {}, must be {}", path, found, digest));
  }
  std::vector<size_t> starts = {0};
  for (size_t at = data.find('\n'); at != std::string_view::npos;
       at = data.find('\n', at + 1)) {
    starts.push_back(at + 1);
  }
  return std::unique_ptr<SourceReader>(
      new SourceReader(*std::move(file), std::move(starts)));
}

absl::StatusOr<Record> SourceReader::Read(int64_t record) const {
  const size_t begin = line_starts_[static_cast<size_t>(record)];
  const size_t end = line_starts_[static_cast<size_t>(record) + 1];
  return RecordFromLine(file_->data().substr(begin, end - begin));
}

}  // namespace sinklora::curator
