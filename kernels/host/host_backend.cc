// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/host_backend.h"

#include <cstring>

#include "kernels/repeat/repeat_validate.h"
#include "kernels/validator.h"

namespace sinklora::kernels {
namespace {

Status ValidateCopy(const char* op, const void* from, const void* to,
                    int64_t size_bytes) {
  Validator check(op);
  check.Value(size_bytes >= 0, "size_bytes", size_bytes, ">= 0");
  if (size_bytes > 0) check.NotNull("source", from).NotNull("target", to);
  return check.status();
}

}  // namespace

Status HostBackend::Allocate(int64_t size_bytes, Buffer* out) {
  void* data = nullptr;
  Status status = allocator_.Allocate(size_bytes, &data);
  if (status.ok()) *out = Buffer(this, data, size_bytes);
  return status;
}

Status HostBackend::CopyToDevice(const void* host, void* device,
                                 int64_t size_bytes) {
  Status status = ValidateCopy("copy_to_device", host, device, size_bytes);
  if (status.ok() && size_bytes > 0) std::memmove(device, host, size_bytes);
  return status;
}

Status HostBackend::CopyToHost(const void* device, void* host,
                               int64_t size_bytes) {
  Status status = ValidateCopy("copy_to_host", device, host, size_bytes);
  if (status.ok() && size_bytes > 0) std::memmove(host, device, size_bytes);
  return status;
}

Status HostBackend::Zero(void* device, int64_t size_bytes) {
  Status status = ValidateCopy("zero", device, device, size_bytes);
  if (status.ok() && size_bytes > 0) std::memset(device, 0, size_bytes);
  return status;
}

Status HostBackend::Repeat(const RepeatParams& p) {
  if (Status status = Validate(p); !status.ok()) return status;
  ++repeat_counts_.run;
  p.run();  // whose error the caller has
  return OkStatus();
}

Status HostBackend::MakeCollectiveId(CollectiveId*) {
  return NoCollectives("make_collective_id");
}

Status HostBackend::JoinCollective(const JoinCollectiveParams&,
                                   std::unique_ptr<Collective>*) {
  return NoCollectives("join_collective");
}

Status HostBackend::NoCollectives(const char* call) const {
  return Status(StatusCode::kUnimplemented,
                std::string(call) + ": backend is " + std::string(name()) +
                    ", must be cuda:N: only GPUs work together");
}

}  // namespace sinklora::kernels
