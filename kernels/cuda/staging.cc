// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace sinklora::kernels::cuda {
namespace {

constexpr int64_t kAlignmentBytes = 64;

}  // namespace

Staging::~Staging() {
  if (memory_ == nullptr) return;
  // The memory may still be read; an error shows in the next call of a user.
  static_cast<void>(runtime_->Synchronize());
  runtime_->FreePinned(memory_);
}

Status Staging::Init() {
  void* memory = nullptr;
  Status status =
      runtime_->AllocatePinned(Runtime::kEvents * kSegmentBytes, &memory);
  memory_ = static_cast<char*>(memory);
  return status;
}

Status Staging::NextSegment() {
  if (Status status = runtime_->Record(segment_); !status.ok()) return status;
  segment_ = (segment_ + 1) % Runtime::kEvents;
  filled_bytes_ = 0;
  return runtime_->Wait(segment_);
}

Status Staging::CopyToDevice(const void* host, void* device,
                             int64_t size_bytes) {
  const auto* from = static_cast<const char*>(host);
  auto* to = static_cast<char*>(device);
  while (size_bytes > 0) {
    if (filled_bytes_ == kSegmentBytes) {
      if (Status status = NextSegment(); !status.ok()) return status;
    }
    const int64_t part = std::min(size_bytes, kSegmentBytes - filled_bytes_);
    char* pinned = Segment(segment_) + filled_bytes_;
    std::memcpy(pinned, from, part);
    if (Status status = runtime_->CopyToDevice(pinned, to, part);
        !status.ok()) {
      return status;
    }
    const int64_t padded =
        (part + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
    filled_bytes_ = std::min(filled_bytes_ + padded, kSegmentBytes);
    from += part;
    to += part;
    size_bytes -= part;
  }
  return OkStatus();
}

// The device fills segments ahead of the host, which empties them in order.
Status Staging::CopyToHost(const void* device, void* host, int64_t size_bytes,
                           const std::function<Status()>& arrived) {
  const auto* from = static_cast<const char*>(device);
  auto* to = static_cast<char*>(host);
  const int64_t parts = (size_bytes + kSegmentBytes - 1) / kSegmentBytes;
  const auto bytes_of = [&](int64_t part) {
    return std::min(kSegmentBytes, size_bytes - part * kSegmentBytes);
  };
  // A segment behind the one being filled may still be read by the device.
  if (Status status = NextSegment(); !status.ok()) return status;
  const int first = segment_;
  for (int64_t i = 0, queued = 0; i < parts; ++i) {
    for (; queued < std::min(parts, i + Runtime::kEvents); ++queued) {
      const int at = (first + queued) % Runtime::kEvents;
      Status status = queued > 0 && queued < Runtime::kEvents
                          ? runtime_->Wait(at)
                          : OkStatus();
      if (status.ok()) {
        status = runtime_->CopyToHost(from + queued * kSegmentBytes,
                                      Segment(at), bytes_of(queued));
      }
      if (status.ok()) status = runtime_->Record(at);
      if (!status.ok()) return status;
    }
    const int at = (first + i) % Runtime::kEvents;
    Status status = runtime_->Wait(at);
    if (status.ok() && i == 0) status = arrived();
    if (!status.ok()) return status;
    std::memcpy(to + i * kSegmentBytes, Segment(at), bytes_of(i));
  }
  segment_ = first;
  filled_bytes_ = 0;
  return OkStatus();
}

}  // namespace sinklora::kernels::cuda
