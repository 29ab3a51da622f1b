// Files over the trainer's streams. Uploads: header first, then the chunks of
// files into a staging directory that goes away unless it is committed.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_UPLOAD_H_
#define SINKLORA_SERVICES_TRAINER_UPLOAD_H_

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/handlers.h"
#include "common/rpc/upload_receiver.h"
#include "services/trainer/artifact_store.h"

namespace sinklora::trainer {

// Reads the first message, which must be the header.
template <typename Request>
absl::Status ReadHeader(StreamReader<Request>* reader, Request* first) {
  if (!reader->Read(first)) {
    return absl::InvalidArgumentError(
        "the stream ended before its first message, the header");
  }
  if (!first->has_header()) {
    return absl::InvalidArgumentError(
        "the first message of the stream has no header");
  }
  return absl::OkStatus();
}

// Reads everything after the header, which announced `size`.
template <typename Request>
absl::StatusOr<StagedFiles> ReceiveFiles(const CallInfo& call,
                                         const common::v1::TransferSize& size,
                                         StreamReader<Request>* reader,
                                         const ArtifactStore& artifacts) {
  StagedFiles upload;
  SL_ASSIGN_OR_RETURN(upload.dir, artifacts.NewStaging());
  upload.path = upload.dir->path();
  SL_ASSIGN_OR_RETURN(
      const auto receiver,
      UploadReceiver::Create(upload.path, size, artifacts.disk()));
  Request request;
  while (reader->Read(&request)) {
    if (!request.has_chunk()) {
      return absl::InvalidArgumentError(
          "a message after the first of the stream has no chunk");
    }
    SL_RETURN_IF_ERROR(receiver->Accept(request.chunk()));
  }
  if (call.cancellation->cancelled()) {
    return absl::CancelledError("the upload was cancelled");
  }
  SL_RETURN_IF_ERROR(receiver->Finish());
  for (const auto& received : receiver->received()) {
    common::v1::FileInfo file;
    file.set_path(received.path);
    file.set_size_bytes(received.size_bytes);
    file.set_sha256(received.sha256);
    upload.files.push_back(std::move(file));
  }
  std::sort(upload.files.begin(), upload.files.end(),
            [](const auto& a, const auto& b) { return a.path() < b.path(); });
  return upload;
}

// Streams `files` below `dir`, each chunk in a Response of its own; `fill` sets
// what else the response carries.
template <typename Response, typename Fill>
absl::Status StreamFiles(const std::string& dir,
                         const std::vector<FileToSend>& files,
                         StreamWriter<Response>* writer, const Fill& fill) {
  return SendFileParts(dir, files, [&](common::v1::FileChunk chunk) {
    Response response;
    fill(&response);
    *response.mutable_chunk() = std::move(chunk);
    return writer->Write(response);
  });
}

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_UPLOAD_H_
