// SPDX-License-Identifier: Apache-2.0
#include "services/cli/download.h"

#include <fmt/format.h>

#include <limits>
#include <map>

#include "common/base/files.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "services/cli/format.h"
#include "services/cli/progress.h"

namespace sinklora::cli {
namespace {

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::StatusOr<Downloaded> Receive(
    Session* session, const std::string& staged, int64_t expected_bytes,
    const std::function<absl::Status(const OnChunk&)>& stream) {
  FileReceiver receiver(staged, std::numeric_limits<int64_t>::max());
  Progress progress(&session->output(), session->clock(), "receiving",
                    Progress::Unit::kBytes, "", expected_bytes);
  SL_RETURN_IF_ERROR(stream([&](const common::v1::FileChunk& chunk) {
    progress.Add(static_cast<int64_t>(chunk.data().size()));
    return receiver.Accept(chunk);
  }));
  SL_RETURN_IF_ERROR(receiver.Finish());
  Downloaded downloaded;
  for (const auto& file : receiver.received()) {
    ++downloaded.file_count;
    downloaded.total_bytes += file.size_bytes;
  }
  if (downloaded.file_count == 0) {
    return absl::InternalError("the server sent no file");
  }
  return downloaded;
}

// `directory` without a slash at its end. kAlreadyExists when it exists.
absl::StatusOr<std::string> NewDirectory(const std::string& directory) {
  std::string path = WithoutTrailingSlashes(directory);
  if (FileExists(path)) {
    return absl::AlreadyExistsError(
        fmt::format("{}: exists already; name a new directory", path));
  }
  return path;
}

}  // namespace

absl::StatusOr<Downloaded> Download(
    Session* session, const std::string& directory, int64_t expected_bytes,
    const std::function<absl::Status(const OnChunk&)>& stream) {
  SL_ASSIGN_OR_RETURN(const std::string final_path, NewDirectory(directory));
  const std::string staged = final_path + NewId(".partial");
  SL_RETURN_IF_ERROR(MakeDirs(staged));
  absl::StatusOr<Downloaded> result =
      Receive(session, staged, expected_bytes, stream);
  if (result.ok()) {
    const absl::Status committed = CommitDirectory(staged, final_path);
    if (!committed.ok()) result = committed;
  }
  // What is left after a failure is of no use; the failure is the news, not a
  // file that stayed.
  if (!result.ok()) RemoveAll(staged).IgnoreError();
  return result;
}

absl::StatusOr<Downloaded> FetchDirectory(
    Session* session, const std::string& directory, const std::string& digest,
    const std::vector<common::v1::FileInfo>& files, const FetchCall& call) {
  SL_ASSIGN_OR_RETURN(const std::string final_path, NewDirectory(directory));
  Downloaded downloaded;
  std::map<std::string, int64_t> sizes;
  for (const auto& file : files) {
    ++downloaded.file_count;
    downloaded.total_bytes += file.size_bytes();
    sizes[file.path()] = file.size_bytes();
  }
  Progress progress(&session->output(), session->clock(), "receiving",
                    Progress::Unit::kBytes, "", downloaded.total_bytes);
  // By content: a half of something else is never gone on with.
  const std::string staged =
      fmt::format("{}.partial-{}", final_path, FormatDigest(digest));
  absl::Status status =
      FetchFiles(staged, files,
                 [&](const std::vector<common::v1::FileOffset>& wanted,
                     const OnFileChunk& on_chunk) {
                   int64_t missing_bytes = 0;
                   for (const auto& file : wanted) {
                     missing_bytes += sizes.at(file.path()) - file.offset();
                   }
                   progress.Set(downloaded.total_bytes - missing_bytes);
                   return call(wanted, [&](const common::v1::FileChunk& chunk) {
                     progress.Add(static_cast<int64_t>(chunk.data().size()));
                     return on_chunk(chunk);
                   });
                 });
  if (MayResume(status) && FileExists(staged)) {
    session->output().Note(
        fmt::format("what has arrived is kept in {}; the same command goes on "
                    "from there",
                    staged));
    return status;
  }
  if (status.ok()) status = CommitDirectory(staged, final_path);
  if (!status.ok()) {
    RemoveAll(staged).IgnoreError();
    return status;
  }
  return downloaded;
}

void PrintDownloaded(Session* session, const std::string& directory,
                     const Downloaded& downloaded) {
  if (session->output().json()) {
    session->output().PrintJson({{"directory", directory},
                                 {"files", downloaded.file_count},
                                 {"total_bytes", downloaded.total_bytes}});
    return;
  }
  session->output().Print(fmt::format("{}: {} files, {}\n", directory,
                                      FormatCount(downloaded.file_count),
                                      FormatBytes(downloaded.total_bytes)));
}

}  // namespace sinklora::cli
