// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding/embedding_validate.h"

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const EmbeddingForwardParams& p, Values values) {
  const Extent tokens{p.ids.shape[0], "number of ids"};
  const Extent dim{p.table.shape[1], "columns of table"};
  return Validator("embedding_forward", values)
      .Tensor("ids", p.ids, kI32, {kAny})
      .Tensor("table", p.table, kFloat, {kAny, kAny})
      .Tensor("out", p.out, kF32, {tokens, dim})
      .Range("ids", p.ids, 0, p.table.shape[0])
      .status();
}

Status Validate(const EmbeddingBackwardParams& p, Values values) {
  const Extent tokens{p.ids.shape[0], "number of ids"};
  const Extent dim{p.dtable.shape[1], "columns of dtable"};
  return Validator("embedding_backward", values)
      .Tensor("ids", p.ids, kI32, {kAny})
      .Tensor("dtable", p.dtable, kF32, {kAny, kAny})
      .Tensor("dout", p.dout, kF32, {tokens, dim})
      .Range("ids", p.ids, 0, p.dtable.shape[0])
      .NoOverlap("dtable", p.dtable, "dout", p.dout)
      .status();
}

}  // namespace sinklora::kernels
