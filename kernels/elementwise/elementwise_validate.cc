// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise/elementwise_validate.h"

#include "kernels/validator.h"

namespace sinklora::kernels {

Status Validate(const SumSquaresParams& p, Values values) {
  return Validator("sum_squares", values)
      .Flat("x", p.x, kF32, kAny)
      .NotNull("result", p.result)
      .AscendingRows(p.rows, "x", p.x)
      .status();
}

Status Validate(const ZeroRowsParams& p, Values values) {
  return Validator("zero_rows", values)
      .Flat("x", p.x, kF32, kAny)
      .Tensor("rows", p.rows, kI32, {kAny})
      .AscendingRows(p.rows, "x", p.x)
      .status();
}

Status Validate(const ScaleParams& p) {
  return Validator("scale").Flat("x", p.x, kF32, kAny).status();
}

Status Validate(const ScaleColumnsParams& p) {
  return Validator("scale_columns")
      .Tensor("x", p.x, kF32, {kAny, kAny})
      .Flat("factors", p.factors, kF32, {p.x.shape[1], "columns of x"})
      .NoOverlap("factors", p.factors, "x", p.x)
      .status();
}

Status Validate(const AddParams& p) {
  const Extent n{p.x.num_elements(), "elements of x"};
  return Validator("add")
      .Flat("x", p.x, kF32, kAny)
      .Flat("out", p.out, kF32, n)
      .status();
}

Status Validate(const CastParams& p) {
  const Extent n{p.x.num_elements(), "elements of x"};
  Validator check("cast");
  check.Flat("x", p.x, kFloat, kAny).Flat("out", p.out, kFloat, n);
  // Equal dtypes may share memory exactly (a copy onto itself); otherwise an
  // element would be overwritten before it is read.
  if (p.x.data != p.out.data || p.x.dtype != p.out.dtype) {
    check.NoOverlap("out", p.out, "x", p.x);
  }
  return check.status();
}

}  // namespace sinklora::kernels
