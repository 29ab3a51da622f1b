// What backends share whose device memory is host memory: that memory, that ops
// which repeat are run each time, and that there are no collectives. Counters
// cover what Allocate handed out, not an op's own scratch.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_HOST_HOST_BACKEND_H_
#define SINKLORA_KERNELS_HOST_HOST_BACKEND_H_

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/host/host_allocator.h"

namespace sinklora::kernels {

class HostBackend : public Backend {
 public:
  explicit HostBackend(int64_t max_pooled_bytes)
      : allocator_(max_pooled_bytes) {}

  Status Allocate(int64_t size_bytes, Buffer* out) override;
  Status CopyToDevice(const void* host, void* device,
                      int64_t size_bytes) override;
  Status CopyToHost(const void* device, void* host,
                    int64_t size_bytes) override;
  Status Zero(void* device, int64_t size_bytes) override;
  int64_t memory_bytes() const override { return allocator_.limit_bytes(); }
  int64_t allocated_bytes() const override {
    return allocator_.allocated_bytes();
  }
  int64_t peak_bytes() const override { return allocator_.peak_bytes(); }
  void ResetPeak() override { allocator_.ResetPeak(); }
  Status Repeat(const RepeatParams& p) override;
  RepeatCounts repeat_counts() const override { return repeat_counts_; }
  Status repeat_refusal() const override { return OkStatus(); }
  Status MakeCollectiveId(CollectiveId* out) override;
  Status JoinCollective(const JoinCollectiveParams& p,
                        std::unique_ptr<Collective>* out) override;

 protected:
  void Free(void* data, int64_t size_bytes) override {
    allocator_.Free(data, size_bytes);
  }

 private:
  Status NoCollectives(const char* call) const;

  HostAllocator allocator_;
  RepeatCounts repeat_counts_;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_HOST_HOST_BACKEND_H_
