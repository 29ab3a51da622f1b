// SPDX-License-Identifier: Apache-2.0
#include "kernels/cache_decode/announced_decodes_cuda.h"

#include <string>

#include "kernels/cuda/cuda_context.h"

namespace sinklora::kernels::cuda {

AnnouncedDecodes::~AnnouncedDecodes() {
  if (memory_ != nullptr) runtime_->Free(memory_);
}

Status AnnouncedDecodes::Announce(std::span<const CacheDecodeParams> decodes,
                                  CudaContext& context) {
  table_.Clear();
  ops_.clear();
  for (const CacheDecodeParams& p : decodes) {
    if (p.tokens.empty()) continue;  // an op that does nothing
    const size_t first = table_.launches().size();
    table_.Add(p);
    ops_.push_back({p.tokens.data(), first, table_.launches().size() - first});
  }
  next_ = 0;
  Status status = Reserve(table_.size_bytes());
  if (status.ok()) status = table_.Upload(memory_, context);
  announced_ = status.ok();
  return status;
}

// Grows by more than is needed, as caches grow by a slot a step.
Status AnnouncedDecodes::Reserve(int64_t size_bytes) {
  if (size_bytes <= memory_bytes_) return OkStatus();
  if (memory_ != nullptr) runtime_->Free(memory_);
  memory_ = nullptr;
  memory_bytes_ = 0;
  ++generation_;
  const int64_t grown = size_bytes + size_bytes / 8;
  Status status = runtime_->Allocate(grown, &memory_);
  if (status.ok()) memory_bytes_ = grown;
  return status;
}

Status AnnouncedDecodes::Take(const CacheDecodeParams& p,
                              std::span<const DecodeLaunch>* launches) {
  if (next_ == ops_.size() || ops_[next_].tokens != p.tokens.data()) {
    return InvalidArgument("repeat: cache_decode number " +
                           std::to_string(next_) +
                           " is another than was announced");
  }
  const Op& op = ops_[next_++];
  *launches = table_.launches().subspan(op.first_launch, op.launches);
  return OkStatus();
}

Status AnnouncedDecodes::CheckAllTaken() const {
  if (next_ == ops_.size()) return OkStatus();
  return InvalidArgument("repeat: " + std::to_string(next_) + " of " +
                         std::to_string(ops_.size()) +
                         " announced cache_decode ops were asked for, must be "
                         "all");
}

void AnnouncedDecodes::AppendTo(std::vector<uint64_t>* key) const {
  const auto pair = [](uint64_t high, uint64_t low) {
    return high << 32 | low;
  };
  for (const DecodeLaunch& launch : table_.launches()) {
    key->push_back(reinterpret_cast<uintptr_t>(launch.tokens) -
                   reinterpret_cast<uintptr_t>(memory_));
    key->push_back(pair(launch.count, launch.kv_heads));
    key->push_back(pair(launch.tiles, launch.rows));
    key->push_back(pair(static_cast<uint64_t>(launch.head_dim),
                        static_cast<uint64_t>(launch.storage) << 1 |
                            (launch.keeps_books ? 1 : 0)));
  }
  key->push_back(table_.launches().size());
}

}  // namespace sinklora::kernels::cuda
