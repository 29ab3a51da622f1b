// SPDX-License-Identifier: Apache-2.0
#include "kernels/collective/collective_validate.h"

#include <string>

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const JoinCollectiveParams& p) {
  Validator check("join_collective");
  check
      .Value(p.size >= 1 && p.size <= JoinCollectiveParams::kMaxSize, "size",
             int64_t{p.size},
             "in [1, " + std::to_string(JoinCollectiveParams::kMaxSize) + "]")
      .Value(p.rank >= 0 && p.rank < p.size, "rank", int64_t{p.rank},
             "in [0, " + std::to_string(p.size) + ")")
      .Value(p.chunk_elements >= 1, "chunk_elements", p.chunk_elements, ">= 1")
      .NotNull("abort", p.abort);
  if (check.ok() && p.size > 1 && p.id == CollectiveId()) {
    return InvalidArgument(
        "join_collective: id is empty, must be one of MakeCollectiveId");
  }
  return check.status();
}

Status ValidateCollective(const char* op, std::span<const TensorView> tensors) {
  Validator check(op);
  for (size_t i = 0; i < tensors.size() && check.ok(); ++i) {
    check.Flat("tensors[" + std::to_string(i) + "]", tensors[i], kF32, kAny);
  }
  return check.status();
}

Status ValidateRoot(int root, int size) {
  return Validator("broadcast")
      .Value(root >= 0 && root < size, "root", int64_t{root},
             "in [0, " + std::to_string(size) + ")")
      .status();
}

Status ValidateMessages(const char* what,
                        std::span<const CollectiveMessage> messages, int rank,
                        int size) {
  Validator check("exchange");
  for (size_t i = 0; i < messages.size() && check.ok(); ++i) {
    const std::string name = std::string(what) + "[" + std::to_string(i) + "]";
    const int peer = messages[i].peer;
    check
        .Value(peer >= 0 && peer < size && peer != rank, name + ".peer",
               int64_t{peer},
               "another rank in [0, " + std::to_string(size) + ")")
        .Flat(name + ".tensor", messages[i].tensor, kF32, kAny);
  }
  return check.status();
}

}  // namespace sinklora::kernels
