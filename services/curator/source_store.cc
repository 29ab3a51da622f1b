// SPDX-License-Identifier: Apache-2.0
#include "services/curator/source_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "services/curator/metadata_json.h"
#include "services/curator/source_import.h"

namespace sinklora::curator {
namespace {

RequestKey KeyOf(const ImportRequest& request,
                 const std::vector<StoredFile>& files) {
  nlohmann::json content = {request.name, FormatName(request.format)};
  for (const StoredFile& file : files) {
    content.push_back({file.path, file.sha256});
  }
  return {"ImportSource", request.request_id, Sha256Hex(content.dump())};
}

// The one format of all files.
absl::StatusOr<SourceFormat> ResolveFormat(
    SourceFormat format, const std::vector<StoredFile>& files) {
  if (files.empty()) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "the upload holds no file, must hold at least 1",
                     {"EMPTY_SOURCE", {{"files", "0"}}});
  }
  if (format != SourceFormat::kUnspecified) return format;
  SL_ASSIGN_OR_RETURN(const SourceFormat first,
                      FormatOfFile(files.front().path));
  for (const StoredFile& file : files) {
    SL_ASSIGN_OR_RETURN(const SourceFormat other, FormatOfFile(file.path));
    if (other == first) continue;
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        fmt::format("file \"{}\" is {} and file \"{}\" is {}: a source has one "
                    "format",
                    files.front().path, FormatName(first), file.path,
                    FormatName(other)),
        {"MIXED_FORMATS", {{"file", file.path}}});
  }
  return first;
}

absl::Status ParseFiles(const std::string& directory,
                        const std::vector<StoredFile>& files,
                        SourceFormat format, const CancelledFn& cancelled,
                        SourceWriter* writer) {
  const auto sink = [&](const Record& record) {
    if (cancelled()) return absl::CancelledError("import was cancelled");
    return writer->Add(record);
  };
  for (const StoredFile& file : files) {
    SL_ASSIGN_OR_RETURN(const auto mapped,
                        MappedFile::Open(JoinPath(directory, file.path)));
    SL_RETURN_IF_ERROR(
        ParseSourceFile(file.path, format, mapped->data(), sink));
  }
  if (writer->record_count() > 0) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   fmt::format("the {} files, file \"{}\" first, hold no "
                               "record, must hold at least 1",
                               files.size(), files.front().path),
                   {"EMPTY_SOURCE", {{"file", files.front().path}}});
}

}  // namespace

absl::StatusOr<SourceInfo> SourceStore::Import(const ImportRequest& request,
                                               const std::string& directory,
                                               std::vector<StoredFile> files,
                                               const CancelledFn& cancelled) {
  SL_RETURN_IF_ERROR(ValidateId("name", request.name));
  std::sort(
      files.begin(), files.end(),
      [](const StoredFile& a, const StoredFile& b) { return a.path < b.path; });
  SL_ASSIGN_OR_RETURN(
      const auto guard,
      options_.locks->Acquire("source/" + request.name, cancelled));
  const RequestKey key = KeyOf(request, files);
  SL_ASSIGN_OR_RETURN(std::optional<SourceInfo> seen,
                      options_.catalog->FindImport(key));
  if (seen.has_value()) return *std::move(seen);
  return Make(request, key, directory, std::move(files), cancelled);
}

absl::StatusOr<SourceInfo> SourceStore::Make(const ImportRequest& request,
                                             const RequestKey& key,
                                             const std::string& directory,
                                             std::vector<StoredFile> files,
                                             const CancelledFn& cancelled) {
  SourceInfo source;
  source.name = request.name;
  SL_ASSIGN_OR_RETURN(source.format, ResolveFormat(request.format, files));
  SL_ASSIGN_OR_RETURN(const auto stage,
                      TempDir::Create(options_.layout.staging()));
  // The normalised records are about as large as the files they come from.
  int64_t upload_bytes = 0;
  for (const StoredFile& file : files) upload_bytes += file.size_bytes;
  SL_ASSIGN_OR_RETURN(const auto room, options_.disk->Reserve(upload_bytes));
  const std::string staged = JoinPath(stage->path(), "source");
  SL_RETURN_IF_ERROR(MakeDirs(staged));
  SL_ASSIGN_OR_RETURN(
      const auto writer,
      SourceWriter::Create(JoinPath(staged, DataLayout::kRecordsFile)));
  SL_RETURN_IF_ERROR(
      ParseFiles(directory, files, source.format, cancelled, writer.get()));
  SL_ASSIGN_OR_RETURN(source.digest, writer->Finish());
  source.record_count = writer->record_count();
  source.text_bytes = writer->text_bytes();
  source.files = std::move(files);
  source.create_time_micros = options_.clock->WallMicros();

  auto existing = options_.catalog->GetSource(request.name);
  if (existing.ok()) {
    if (existing->digest == source.digest) {
      SL_RETURN_IF_ERROR(options_.catalog->PutSource(*existing, key));
      return existing;
    }
    return MakeError(
        absl::StatusCode::kAlreadyExists,
        fmt::format("source \"{}\" exists with other content: its digest is "
                    "{}, that of the upload {}",
                    request.name, existing->digest, source.digest),
        {"ALREADY_EXISTS", {{"source", request.name}}});
  }
  if (!absl::IsNotFound(existing.status())) return existing.status();
  // The last moment: from here on the import is done, also for a client that
  // goes.
  if (cancelled()) return absl::CancelledError("import was cancelled");
  SL_RETURN_IF_ERROR(
      CommitContent(staged, options_.layout.Source(source.digest)));
  SL_RETURN_IF_ERROR(options_.catalog->PutSource(source, key));
  options_.metrics->SourceImported(source);
  LogInfo("imported source {}: {} records, {} bytes of text", source.name,
          source.record_count, source.text_bytes);
  return source;
}

absl::StatusOr<std::unique_ptr<SourceReader>> SourceStore::OpenRecords(
    const SourceInfo& source) const {
  return SourceReader::Open(options_.layout.Records(source.digest),
                            source.digest);
}

}  // namespace sinklora::curator
