// CuratorService over gRPC: reads requests, calls the core, writes responses.
// All work is on the executor's threads.
//
// Thread-safe. Borrows the core and what RpcContext points to; all must outlive
// the server's Drain().
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_CURATOR_SERVICE_H_
#define SINKLORA_SERVICES_CURATOR_CURATOR_SERVICE_H_

#include "common/rpc/handlers.h"
#include "services/curator/curator_core.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"

namespace sinklora::curator {

class CuratorServiceImpl final : public v1::CuratorService::CallbackService {
 public:
  CuratorServiceImpl(RpcContext rpc, CuratorCore* core,
                     int64_t max_source_bytes)
      : rpc_(std::move(rpc)),
        core_(core),
        max_source_bytes_(max_source_bytes) {}

  grpc::ServerReadReactor<v1::ImportSourceRequest>* ImportSource(
      grpc::CallbackServerContext* context,
      v1::ImportSourceResponse* response) override;
  grpc::ServerWriteReactor<v1::CurateResponse>* Curate(
      grpc::CallbackServerContext* context,
      const v1::CurateRequest* request) override;
  grpc::ServerUnaryReactor* GetDataset(
      grpc::CallbackServerContext* context,
      const v1::GetDatasetRequest* request,
      v1::GetDatasetResponse* response) override;
  grpc::ServerUnaryReactor* ListDatasets(
      grpc::CallbackServerContext* context,
      const v1::ListDatasetsRequest* request,
      v1::ListDatasetsResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamExamplesResponse>* StreamExamples(
      grpc::CallbackServerContext* context,
      const v1::StreamExamplesRequest* request) override;
  grpc::ServerWriteReactor<v1::ExportDatasetResponse>* ExportDataset(
      grpc::CallbackServerContext* context,
      const v1::ExportDatasetRequest* request) override;

 private:
  absl::Status DoImport(const CallInfo& info,
                        StreamReader<v1::ImportSourceRequest>* reader,
                        v1::ImportSourceResponse* response);
  absl::Status DoCurate(const CallInfo& info, const v1::CurateRequest& request,
                        StreamWriter<v1::CurateResponse>* writer);
  absl::Status DoList(const v1::ListDatasetsRequest& request,
                      v1::ListDatasetsResponse* response);
  absl::Status DoStream(const CallInfo& info,
                        const v1::StreamExamplesRequest& request,
                        StreamWriter<v1::StreamExamplesResponse>* writer);
  absl::Status DoExport(const CallInfo& info,
                        const v1::ExportDatasetRequest& request,
                        StreamWriter<v1::ExportDatasetResponse>* writer);

  const RpcContext rpc_;
  CuratorCore* const core_;
  const int64_t max_source_bytes_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_CURATOR_SERVICE_H_
