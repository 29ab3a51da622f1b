// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_context.h"

#include <utility>

namespace sinklora::kernels::cuda {

CudaContext::CudaContext(std::unique_ptr<Runtime> runtime,
                         std::unique_ptr<Gemm> gemm, int max_graphs)
    : runtime_(std::move(runtime)),
      gemm_(std::move(gemm)),
      scratch_(runtime_.get()),
      staging_(runtime_.get()),
      decodes_(runtime_.get()),
      recorder_(runtime_.get(), max_graphs) {}

CudaContext::~CudaContext() {
  // Best effort, as all that follows.
  static_cast<void>(runtime_->Enter());
  if (faults_ != nullptr) runtime_->Free(faults_);
  if (seen_faults_ == nullptr) return;
  static_cast<void>(runtime_->Synchronize());
  runtime_->FreePinned(seen_faults_);
}

Status CudaContext::Init() {
  if (Status status = staging_.Init(); !status.ok()) return status;
  void* faults = nullptr;
  if (Status status = runtime_->Allocate(sizeof(DeviceFaults), &faults);
      !status.ok()) {
    return status;
  }
  faults_ = static_cast<DeviceFaults*>(faults);
  if (Status status = runtime_->AllocatePinned(sizeof(DeviceFaults), &faults);
      !status.ok()) {
    return status;
  }
  seen_faults_ = static_cast<DeviceFaults*>(faults);
  return ClearFaults();
}

Status CudaContext::Enter() { return lost_.ok() ? runtime_->Enter() : lost_; }

Status CudaContext::Leave(Status status) {
  if (status.code() != StatusCode::kInternal) return status;
  if (runtime_->recording()) {
    recorder_.Spoil(status);
  } else if (lost_.ok()) {
    lost_ = status;
  }
  return status;
}

void CudaContext::Free(void* data) {
  if (runtime_->recording()) {
    put_off_.push_back(data);
  } else {
    runtime_->Free(data);
  }
}

void CudaContext::FreePutOff() {
  for (void* data : put_off_) runtime_->Free(data);
  put_off_.clear();
}

Status CudaContext::ClearFaults() {
  const DeviceFaults none;
  return staging_.CopyToDevice(&none, faults_, sizeof(none));
}

Status CudaContext::ReportFaults() {
  Status status = ToStatus(*seen_faults_);
  if (status.ok()) return status;
  if (Status cleared = ClearFaults(); !cleared.ok()) return cleared;
  return status;
}

Status CudaContext::TakeFaults() {
  Status status =
      runtime_->CopyToHost(faults_, seen_faults_, sizeof(DeviceFaults));
  if (status.ok()) status = runtime_->Synchronize();
  return status.ok() ? ReportFaults() : status;
}

Status CudaContext::CopyToHost(const void* device, void* host,
                               int64_t size_bytes) {
  if (size_bytes == 0) return TakeFaults();
  Status status =
      runtime_->CopyToHost(faults_, seen_faults_, sizeof(DeviceFaults));
  if (!status.ok()) return status;
  return staging_.CopyToHost(device, host, size_bytes,
                             [this] { return ReportFaults(); });
}

}  // namespace sinklora::kernels::cuda
