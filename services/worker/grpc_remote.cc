// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <limits>
#include <utility>
#include <vector>

#include "common/base/files.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_fetch.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/upload_receiver.h"
#include "services/worker/remote.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"
#include "sinklora/registry/v1/registry_service.grpc.pb.h"
#include "sinklora/trainer/v1/worker_service.grpc.pb.h"

namespace sinklora::worker {
namespace {

using curator::v1::CuratorService;
using registry::v1::RegistryService;
using trainer::v1::WorkerService;

// Asking for a job must not hold up a stop when the trainer hangs.
constexpr double kLeaseTimeoutSeconds = 5;

// A stub of `Service`, made anew when the address has changed.
template <typename Service>
class Connection {
 public:
  Connection(std::string name, std::function<std::string()> address)
      : name_(std::move(name)), address_(std::move(address)) {}

  absl::StatusOr<std::shared_ptr<typename Service::Stub>> Stub() {
    const std::string address = address_();
    if (address.empty()) {
      return absl::UnavailableError(
          fmt::format("the {} has no address yet", name_));
    }
    MutexLock lock(&mutex_);
    if (stub_ == nullptr || address != connected_address_) {
      stub_ = Service::NewStub(MakeChannel(address));
      connected_address_ = address;
    }
    return stub_;
  }

  absl::Status Translate(const grpc::Status& status) {
    return Annotate(FromGrpc(status), fmt::format("{} {}", name_, address_()));
  }

 private:
  const std::string name_;
  const std::function<std::string()> address_;
  Mutex mutex_;
  std::string connected_address_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<typename Service::Stub> stub_ ABSL_GUARDED_BY(mutex_);
};

// Sends `header` with the size of what follows, then every file below `dir`
// (none when it is empty).
template <typename Request, typename Header, typename Writer>
absl::Status SendUpload(const Header& header, const std::string& dir,
                        const Cancellation* cancellation, Writer* writer) {
  Request request;
  *request.mutable_header() = header;
  std::vector<std::string> paths;
  if (!dir.empty()) {
    SL_ASSIGN_OR_RETURN(paths, ListFilesRecursive(dir));
    SL_ASSIGN_OR_RETURN(*request.mutable_header()->mutable_size(),
                        MeasureFiles(dir, paths));
  }
  if (!writer->Write(request)) {
    return absl::UnavailableError("the stream was cut");
  }
  return SendFiles(dir, paths, [&](common::v1::FileChunk chunk) {
    Request part;
    *part.mutable_chunk() = std::move(chunk);
    return !cancellation->cancelled() && writer->Write(part);
  });
}

template <typename Request, typename Header, typename Writer,
          typename Connection>
absl::Status Upload(const Header& header, const std::string& dir,
                    const Cancellation* cancellation,
                    grpc::ClientContext* context, Writer* writer,
                    Connection* connection) {
  const absl::Status sent =
      SendUpload<Request>(header, dir, cancellation, writer);
  if (sent.ok()) {
    writer->WritesDone();
  } else if (!absl::IsUnavailable(sent) || cancellation->cancelled()) {
    // Half an upload must not look like a whole one.
    context->TryCancel();
  }
  const absl::Status finished = connection->Translate(writer->Finish());
  // A peer that cuts the stream says why in its status.
  if (sent.ok() || absl::IsUnavailable(sent)) {
    return sent.ok() || !finished.ok() ? finished : sent;
  }
  return sent;
}

// Hands every chunk of a stream to `on_chunk`. `response` holds the last one
// afterwards.
template <typename Response, typename Reader, typename Connection>
absl::Status ReceiveChunks(const OnFileChunk& on_chunk,
                           const Cancellation* cancellation,
                           grpc::ClientContext* context, Reader* reader,
                           Connection* connection, Response* response) {
  absl::Status accepted;
  while (accepted.ok() && reader->Read(response)) {
    accepted = cancellation->cancelled()
                   ? absl::CancelledError("the download was cancelled")
                   : on_chunk(response->chunk());
  }
  if (!accepted.ok()) context->TryCancel();
  const absl::Status finished = connection->Translate(reader->Finish());
  SL_RETURN_IF_ERROR(accepted);
  return finished;
}

// Receives a stream of chunks into files below `dir`. `response` as above.
template <typename Response, typename Reader, typename Connection>
absl::Status Download(const std::string& dir, const Cancellation* cancellation,
                      grpc::ClientContext* context, Reader* reader,
                      Connection* connection, Response* response) {
  FileReceiver receiver(dir, std::numeric_limits<int64_t>::max());
  SL_RETURN_IF_ERROR(ReceiveChunks(
      [&](const common::v1::FileChunk& chunk) {
        return receiver.Accept(chunk);
      },
      cancellation, context, reader, connection, response));
  return receiver.Finish();
}

class GrpcRemote final : public Remote {
 public:
  GrpcRemote(const std::function<std::string()>& trainer_address,
             const std::function<std::string()>& curator_address)
      : worker_("trainer", trainer_address),
        registry_("registry", trainer_address),
        curator_("curator", curator_address) {}

  absl::StatusOr<trainer::v1::LeaseJobResponse> LeaseJob(
      const trainer::v1::LeaseJobRequest& request) override {
    SL_ASSIGN_OR_RETURN(const auto stub, worker_.Stub());
    const auto context = MakeContext(kLeaseTimeoutSeconds);
    trainer::v1::LeaseJobResponse response;
    SL_RETURN_IF_ERROR(
        worker_.Translate(stub->LeaseJob(context.get(), request, &response)));
    return response;
  }

  absl::StatusOr<trainer::v1::HeartbeatResponse> Heartbeat(
      const trainer::v1::HeartbeatRequest& request,
      double timeout_seconds) override {
    SL_ASSIGN_OR_RETURN(const auto stub, worker_.Stub());
    const auto context = MakeContext(timeout_seconds);
    trainer::v1::HeartbeatResponse response;
    SL_RETURN_IF_ERROR(
        worker_.Translate(stub->Heartbeat(context.get(), request, &response)));
    return response;
  }

  absl::Status CommitCheckpoint(
      const trainer::v1::CommitCheckpointHeader& header, const std::string& dir,
      const Cancellation* cancellation) override {
    SL_ASSIGN_OR_RETURN(const auto stub, worker_.Stub());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    trainer::v1::CommitCheckpointResponse response;
    const auto writer = stub->CommitCheckpoint(context.get(), &response);
    return Upload<trainer::v1::CommitCheckpointRequest>(
        header, dir, cancellation, context.get(), writer.get(), &worker_);
  }

  absl::StatusOr<int64_t> DownloadCheckpoint(
      const trainer::v1::Lease& lease, int64_t broken_step,
      const std::string& dir, const Cancellation* cancellation) override {
    SL_ASSIGN_OR_RETURN(const auto stub, worker_.Stub());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    trainer::v1::DownloadCheckpointRequest request;
    *request.mutable_lease() = lease;
    request.set_broken_step(broken_step);
    const auto reader = stub->DownloadCheckpoint(context.get(), request);
    trainer::v1::DownloadCheckpointResponse last;
    SL_RETURN_IF_ERROR(Download(dir, cancellation, context.get(), reader.get(),
                                &worker_, &last));
    return last.step();
  }

  absl::Status FinishJob(const trainer::v1::FinishJobHeader& header,
                         const std::string& result_dir,
                         const Cancellation* cancellation) override {
    SL_ASSIGN_OR_RETURN(const auto stub, worker_.Stub());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    trainer::v1::FinishJobResponse response;
    const auto writer = stub->FinishJob(context.get(), &response);
    return Upload<trainer::v1::FinishJobRequest>(header, result_dir,
                                                 cancellation, context.get(),
                                                 writer.get(), &worker_);
  }

  absl::StatusOr<registry::v1::Model> GetModel(
      const std::string& name) override {
    SL_ASSIGN_OR_RETURN(const auto stub, registry_.Stub());
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    registry::v1::GetModelRequest request;
    request.set_name(name);
    registry::v1::GetModelResponse response;
    SL_RETURN_IF_ERROR(
        registry_.Translate(stub->GetModel(context.get(), request, &response)));
    return response.model();
  }

  absl::Status DownloadModel(const registry::v1::Model& model,
                             const std::string& dir,
                             const Cancellation* cancellation) override {
    return FetchFiles(dir, {model.files().begin(), model.files().end()},
                      [&](const std::vector<common::v1::FileOffset>& wanted,
                          const OnFileChunk& on_chunk) {
                        return DownloadParts(model, wanted, cancellation,
                                             on_chunk);
                      });
  }

  absl::Status StreamExamples(
      const curator::v1::StreamExamplesRequest& request,
      const Cancellation* cancellation,
      const std::function<absl::Status(
          const curator::v1::StreamExamplesResponse&)>& on_example) override {
    SL_ASSIGN_OR_RETURN(const auto stub, curator_.Stub());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    const auto reader = stub->StreamExamples(context.get(), request);
    curator::v1::StreamExamplesResponse response;
    absl::Status accepted;
    while (accepted.ok() && reader->Read(&response)) {
      accepted = cancellation->cancelled()
                     ? absl::CancelledError("the stream was cancelled")
                     : on_example(response);
    }
    if (!accepted.ok()) context->TryCancel();
    const absl::Status finished = curator_.Translate(reader->Finish());
    return accepted.ok() ? finished : accepted;
  }

 private:
  absl::Status DownloadParts(const registry::v1::Model& model,
                             const std::vector<common::v1::FileOffset>& wanted,
                             const Cancellation* cancellation,
                             const OnFileChunk& on_chunk) {
    SL_ASSIGN_OR_RETURN(const auto stub, registry_.Stub());
    const auto context = MakeContext(kTransferTimeoutSeconds);
    registry::v1::DownloadModelRequest request;
    request.set_name(model.name());
    request.set_digest(model.digest());
    for (const auto& file : wanted) request.add_paths(file.path());
    request.mutable_offsets()->Assign(wanted.begin(), wanted.end());
    const auto reader = stub->DownloadModel(context.get(), request);
    registry::v1::DownloadModelResponse last;
    return ReceiveChunks(on_chunk, cancellation, context.get(), reader.get(),
                         &registry_, &last);
  }

  Connection<WorkerService> worker_;
  Connection<RegistryService> registry_;
  Connection<CuratorService> curator_;
};

}  // namespace

std::unique_ptr<Remote> MakeGrpcRemote(
    std::function<std::string()> trainer_address,
    std::function<std::string()> curator_address) {
  return std::make_unique<GrpcRemote>(trainer_address, curator_address);
}

}  // namespace sinklora::worker
