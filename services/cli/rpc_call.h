// One call to a service: deadline, interrupt, status translation. Includes gRPC
// headers: for *_client.cc only.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CLI_RPC_CALL_H_
#define SINKLORA_SERVICES_CLI_RPC_CALL_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "services/cli/interrupt.h"
#include "services/cli/upload_files.h"

namespace sinklora::cli {

// A client context that an interrupt cancels.
class Call {
 public:
  Call(Interrupt* interrupt, double timeout_seconds)
      : interrupt_(interrupt),
        context_(MakeContext(timeout_seconds)),
        id_(interrupt->Add(
            [context = context_.get()] { context->TryCancel(); })) {}
  ~Call() { interrupt_->Remove(id_); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  grpc::ClientContext* context() { return context_.get(); }

 private:
  Interrupt* const interrupt_;
  const std::unique_ptr<grpc::ClientContext> context_;
  const int64_t id_;
};

// Calls `method` of `stub` and returns its response.
template <typename Response, typename Stub, typename Request>
absl::StatusOr<Response> CallUnary(
    Interrupt* interrupt, double timeout_seconds, Stub* stub,
    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                 Response*),
    const Request& request) {
  Call call(interrupt, timeout_seconds);
  Response response;
  SL_RETURN_IF_ERROR(
      FromGrpc((stub->*method)(call.context(), request, &response)));
  return response;
}

// Reads a server stream to its end. An error of `on_message` cancels the call
// and is returned.
template <typename Response>
absl::Status ReadStream(
    Call* call, grpc::ClientReader<Response>* reader,
    const std::function<absl::Status(const Response&)>& on_message) {
  Response response;
  while (reader->Read(&response)) {
    const absl::Status status = on_message(response);
    if (!status.ok()) {
      call->context()->TryCancel();
      reader->Finish().ok();  // its only news is the cancellation
      return status;
    }
  }
  return FromGrpc(reader->Finish());
}

// Sends `first`, whose header gets the size of `upload`, and then the files of
// it over a client stream, and ends the call. `on_bytes` gets the size of each
// chunk.
template <typename Request>
absl::Status SendUpload(Call* call, grpc::ClientWriter<Request>* writer,
                        Request first, const Upload& upload,
                        const std::function<void(int64_t)>& on_bytes) {
  common::v1::TransferSize* size = first.mutable_header()->mutable_size();
  size->set_file_count(upload.file_count);
  size->set_total_bytes(upload.total_bytes);
  bool open = writer->Write(first);
  absl::Status sent;
  for (const UploadRoot& root : upload.roots) {
    if (!open || !sent.ok()) break;
    sent =
        SendFiles(root.directory, root.files, [&](common::v1::FileChunk chunk) {
          const auto bytes = static_cast<int64_t>(chunk.data().size());
          Request request;
          *request.mutable_chunk() = std::move(chunk);
          open = writer->Write(request);
          if (open) on_bytes(bytes);
          return open;
        });
  }
  if (open && !sent.ok()) {
    call->context()->TryCancel();
    writer->Finish().ok();  // its only news is the cancellation
    return sent;
  }
  // Where the server stopped reading, its status says why; it may well be OK
  // (the upload was stored before).
  if (open) writer->WritesDone();
  return FromGrpc(writer->Finish());
}

}  // namespace sinklora::cli

#endif  // SINKLORA_SERVICES_CLI_RPC_CALL_H_
