// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/context_exchange.h"

#include <vector>

#include "common/base/status.h"

namespace sinklora::internal {
namespace {

using kernels::TensorView;
using Messages = std::vector<kernels::CollectiveMessage>;

// `rows` of keys and of values, in an order that both ends have.
Messages MessagesOf(const ContextLink& link,
                    const std::vector<ContextShard::Rows>& rows,
                    const TensorView& k, const TensorView& v) {
  Messages out;
  for (const ContextShard::Rows& r : rows) {
    for (const TensorView* x : {&k, &v}) {
      out.push_back({link.first_rank + r.place, x->Rows(r.begin, r.count)});
    }
  }
  return out;
}

absl::Status Exchange(const ContextLink& link, const Messages& sends,
                      const Messages& receives) {
  if (sends.empty() && receives.empty()) return absl::OkStatus();
  SL_RETURN_IF_KERNEL_ERROR(link.collective->Exchange(sends, receives));
  return ToAbsl(link.collective->Wait());
}

}  // namespace

absl::Status ExchangeKeys(const ContextLink& link, const TensorView& k,
                          const TensorView& v) {
  return Exchange(link, MessagesOf(link, link.shard->lends, k, v),
                  MessagesOf(link, link.shard->reads, k, v));
}

absl::Status ExchangeKeyGradients(const ContextLink& link,
                                  kernels::Backend* backend,
                                  const TensorView& dk, const TensorView& dv,
                                  const TensorView& received) {
  const Messages own = MessagesOf(link, link.shard->lends, dk, dv);
  Messages receives = own;
  int64_t at = 0;
  for (kernels::CollectiveMessage& message : receives) {
    const int64_t count = message.tensor.shape[0];
    message.tensor = received.Rows(at, count);
    at += count;
  }
  SL_RETURN_IF_ERROR(
      Exchange(link, MessagesOf(link, link.shard->reads, dk, dv), receives));
  for (size_t i = 0; i < own.size(); ++i) {
    SL_RETURN_IF_KERNEL_ERROR(
        backend->Add({.x = receives[i].tensor, .out = own[i].tensor}));
  }
  return absl::OkStatus();
}

}  // namespace sinklora::internal
