// SPDX-License-Identifier: Apache-2.0
#include "services/cli/download.h"

#include <fmt/format.h>

#include <limits>

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

}  // namespace

absl::StatusOr<Downloaded> Download(
    Session* session, const std::string& directory, int64_t expected_bytes,
    const std::function<absl::Status(const OnChunk&)>& stream) {
  const std::string final_path = WithoutTrailingSlashes(directory);
  if (FileExists(final_path)) {
    return absl::AlreadyExistsError(
        fmt::format("{}: exists already; name a new directory", final_path));
  }
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
