// SPDX-License-Identifier: Apache-2.0
#include "services/curator/curator_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/upload_receiver.h"
#include "services/curator/proto_conversion.h"

namespace sinklora::curator {
namespace {

absl::Status InvalidField(const std::string& field,
                          const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message,
                   {"INVALID_REQUEST", {{"field", field}}});
}

absl::Status CallOver() { return absl::CancelledError("the call is over"); }

CancelledFn CancelledOf(const CallInfo& info) {
  return
      [cancellation = info.cancellation] { return cancellation->cancelled(); };
}

absl::StatusOr<ImportRequest> ReadHeader(
    StreamReader<v1::ImportSourceRequest>* reader,
    common::v1::TransferSize* size) {
  v1::ImportSourceRequest message;
  if (!reader->Read(&message) || !message.has_header()) {
    return InvalidField("header", "the first message must hold the header");
  }
  ImportRequest request;
  request.name = message.header().name();
  request.request_id = message.header().request_id();
  *size = message.header().size();
  // Checked here too: a bad name should not cost an upload first.
  SL_RETURN_IF_ERROR(ValidateId("name", request.name));
  SL_ASSIGN_OR_RETURN(request.format, FromProto(message.header().format()));
  return request;
}

absl::Status ReceiveFiles(StreamReader<v1::ImportSourceRequest>* reader,
                          UploadReceiver* receiver) {
  v1::ImportSourceRequest message;
  while (reader->Read(&message)) {
    if (!message.has_chunk()) {
      return InvalidField("chunk",
                          "every message after the first must hold a chunk");
    }
    SL_RETURN_IF_ERROR(receiver->Accept(message.chunk()));
  }
  return receiver->Finish();
}

}  // namespace

grpc::ServerReadReactor<v1::ImportSourceRequest>*
CuratorServiceImpl::ImportSource(grpc::CallbackServerContext* context,
                                 v1::ImportSourceResponse* response) {
  return RunClientStream<v1::ImportSourceRequest, v1::ImportSourceResponse>(
      rpc_, "ImportSource", context, response,
      [this](const CallInfo& info,
             StreamReader<v1::ImportSourceRequest>* reader,
             v1::ImportSourceResponse* resp) {
        return DoImport(info, reader, resp);
      });
}

grpc::ServerWriteReactor<v1::CurateResponse>* CuratorServiceImpl::Curate(
    grpc::CallbackServerContext* context, const v1::CurateRequest* request) {
  return RunServerStream<v1::CurateRequest, v1::CurateResponse>(
      rpc_, "Curate", context, request,
      [this](const CallInfo& info, const v1::CurateRequest& req,
             StreamWriter<v1::CurateResponse>* writer) {
        return DoCurate(info, req, writer);
      });
}

grpc::ServerUnaryReactor* CuratorServiceImpl::GetDataset(
    grpc::CallbackServerContext* context, const v1::GetDatasetRequest* request,
    v1::GetDatasetResponse* response) {
  return RunUnary<v1::GetDatasetRequest, v1::GetDatasetResponse>(
      rpc_, "GetDataset", context, request, response,
      [this](const CallInfo&, const v1::GetDatasetRequest& req,
             v1::GetDatasetResponse* resp) -> absl::Status {
        SL_ASSIGN_OR_RETURN(const DatasetInfo dataset,
                            core_->GetDataset(req.name()));
        *resp->mutable_dataset() = ToProto(dataset);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* CuratorServiceImpl::ListDatasets(
    grpc::CallbackServerContext* context,
    const v1::ListDatasetsRequest* request,
    v1::ListDatasetsResponse* response) {
  return RunUnary<v1::ListDatasetsRequest, v1::ListDatasetsResponse>(
      rpc_, "ListDatasets", context, request, response,
      [this](const CallInfo&, const v1::ListDatasetsRequest& req,
             v1::ListDatasetsResponse* resp) { return DoList(req, resp); });
}

grpc::ServerWriteReactor<v1::StreamExamplesResponse>*
CuratorServiceImpl::StreamExamples(grpc::CallbackServerContext* context,
                                   const v1::StreamExamplesRequest* request) {
  return RunServerStream<v1::StreamExamplesRequest, v1::StreamExamplesResponse>(
      rpc_, "StreamExamples", context, request,
      [this](const CallInfo& info, const v1::StreamExamplesRequest& req,
             StreamWriter<v1::StreamExamplesResponse>* writer) {
        return DoStream(info, req, writer);
      });
}

grpc::ServerWriteReactor<v1::ExportDatasetResponse>*
CuratorServiceImpl::ExportDataset(grpc::CallbackServerContext* context,
                                  const v1::ExportDatasetRequest* request) {
  return RunServerStream<v1::ExportDatasetRequest, v1::ExportDatasetResponse>(
      rpc_, "ExportDataset", context, request,
      [this](const CallInfo& info, const v1::ExportDatasetRequest& req,
             StreamWriter<v1::ExportDatasetResponse>* writer) {
        return DoExport(info, req, writer);
      });
}

absl::Status CuratorServiceImpl::DoImport(
    const CallInfo& info, StreamReader<v1::ImportSourceRequest>* reader,
    v1::ImportSourceResponse* response) {
  common::v1::TransferSize size;
  SL_ASSIGN_OR_RETURN(const ImportRequest request, ReadHeader(reader, &size));
  SL_ASSIGN_OR_RETURN(const auto upload, core_->NewUploadDir());
  SL_ASSIGN_OR_RETURN(const auto receiver,
                      UploadReceiver::Create(upload->path(), size,
                                             core_->disk(), max_source_bytes_));
  SL_RETURN_IF_ERROR(ReceiveFiles(reader, receiver.get()));
  if (info.cancellation->cancelled()) return CallOver();
  std::vector<StoredFile> files;
  for (const FileReceiver::Received& file : receiver->received()) {
    files.push_back({file.path, file.size_bytes, file.sha256});
  }
  SL_ASSIGN_OR_RETURN(const SourceInfo source,
                      core_->ImportSource(request, upload->path(),
                                          std::move(files), CancelledOf(info)));
  *response->mutable_source() = ToProto(source);
  return absl::OkStatus();
}

absl::Status CuratorServiceImpl::DoCurate(
    const CallInfo& info, const v1::CurateRequest& request,
    StreamWriter<v1::CurateResponse>* writer) {
  SL_ASSIGN_OR_RETURN(Recipe recipe, FromProto(request.recipe()));
  // A failed write is seen here before the cancellation reaches `info`.
  std::atomic<bool> client_gone{false};
  const CancelledFn cancelled = [&client_gone, &info] {
    return client_gone.load(std::memory_order_relaxed) ||
           info.cancellation->cancelled();
  };
  const ProgressFn progress = [&](const char* stage, int64_t done_records,
                                  int64_t total_records) {
    v1::CurateResponse response;
    response.mutable_progress()->set_stage(stage);
    response.mutable_progress()->set_done_records(done_records);
    response.mutable_progress()->set_total_records(total_records);
    if (!writer->Write(response)) client_gone = true;
  };
  SL_ASSIGN_OR_RETURN(
      const DatasetInfo dataset,
      core_->Curate({request.name(), std::move(recipe), request.request_id()},
                    cancelled, progress));
  v1::CurateResponse response;
  *response.mutable_dataset() = ToProto(dataset);
  return writer->Write(response) ? absl::OkStatus() : CallOver();
}

absl::Status CuratorServiceImpl::DoList(const v1::ListDatasetsRequest& request,
                                        v1::ListDatasetsResponse* response) {
  SL_ASSIGN_OR_RETURN(
      const CuratorCore::DatasetPage page,
      core_->ListDatasets(request.page_size(), request.page_token()));
  for (const DatasetInfo& dataset : page.datasets) {
    *response->add_datasets() = ToProto(dataset);
  }
  response->set_next_page_token(page.next_page_token);
  return absl::OkStatus();
}

absl::Status CuratorServiceImpl::DoStream(
    const CallInfo& info, const v1::StreamExamplesRequest& request,
    StreamWriter<v1::StreamExamplesResponse>* writer) {
  SL_ASSIGN_OR_RETURN(const Split split, FromProto(request.split()));
  const int64_t first = request.first_example();
  if (first < 0 || request.max_examples() < 0) {
    return InvalidField(
        first < 0 ? "first_example" : "max_examples",
        fmt::format("first_example is {} and max_examples {}, both must be 0 "
                    "or greater",
                    first, request.max_examples()));
  }
  SL_ASSIGN_OR_RETURN(
      const auto examples,
      core_->OpenExamples(request.name(), request.digest(), split));
  const int64_t count = examples->example_count();
  if (first > count) {
    return MakeError(
        absl::StatusCode::kOutOfRange,
        fmt::format("first_example is {}, dataset \"{}\" has {} examples in "
                    "this split",
                    first, request.name(), count),
        {"OUT_OF_RANGE", {{"field", "first_example"}}});
  }
  const int64_t wanted =
      request.max_examples() == 0 ? count : request.max_examples();
  const int64_t end = first + std::min(wanted, count - first);
  for (int64_t index = first; index < end; ++index) {
    if (info.cancellation->cancelled()) return CallOver();
    SL_ASSIGN_OR_RETURN(const TrainingExample example, examples->Read(index));
    v1::StreamExamplesResponse response;
    response.set_index(index);
    *response.mutable_example() = ToProto(example);
    if (!writer->Write(response)) return CallOver();
  }
  return absl::OkStatus();
}

absl::Status CuratorServiceImpl::DoExport(
    const CallInfo& info, const v1::ExportDatasetRequest& request,
    StreamWriter<v1::ExportDatasetResponse>* writer) {
  SL_ASSIGN_OR_RETURN(const DatasetStore::Export files,
                      core_->MakeExport(request.name(), CancelledOf(info)));
  const auto send = [writer](common::v1::FileChunk chunk) {
    v1::ExportDatasetResponse response;
    *response.mutable_chunk() = std::move(chunk);
    return writer->Write(response);
  };
  SL_RETURN_IF_ERROR(SendFiles(files.stored_directory, files.stored, send));
  return SendFiles(files.scratch->path(), files.made, send);
}

}  // namespace sinklora::curator
