// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/row_set.h"

#include <algorithm>
#include <bit>

#include "common/base/status.h"

namespace sinklora::internal {

absl::StatusOr<RowSet> RowSet::Create(kernels::Backend* backend,
                                      int64_t num_rows) {
  RowSet out;
  out.backend_ = backend;
  SL_ASSIGN_OR_RETURN(
      out.device_,
      DeviceTensor::Create(backend, kernels::DType::kI32, {num_rows}));
  out.is_member_.assign(static_cast<size_t>(num_rows), 0);
  out.rows_.reserve(static_cast<size_t>(num_rows));
  // No two runs touch.
  out.runs_.reserve(static_cast<size_t>(num_rows / 2 + 1));
  return out;
}

absl::Status RowSet::Add(std::span<const int32_t> rows) {
  const size_t before = rows_.size();
  for (const int32_t row : rows) {
    if (is_member_[row] != 0) continue;
    is_member_[row] = 1;
    rows_.push_back(row);
  }
  if (rows_.size() == before) return absl::OkStatus();
  std::sort(rows_.begin(), rows_.end());
  runs_.clear();
  for (const int32_t row : rows_) {
    if (!runs_.empty() && runs_.back().begin + runs_.back().count == row) {
      ++runs_.back().count;
    } else {
      runs_.push_back({row, 1});
    }
  }
  return Upload(backend_, rows_, device_.view().Rows(0, view().shape[0]));
}

void RowSet::Clear() {
  for (const int32_t row : rows_) is_member_[row] = 0;
  rows_.clear();
  runs_.clear();
}

kernels::ConstTensorView RowSet::view() const {
  if (empty()) return {};
  return device_.view().Rows(0, static_cast<int64_t>(rows_.size()));
}

std::vector<int32_t> NonzeroRows(std::span<const float> values,
                                 int64_t columns) {
  std::vector<int32_t> out;
  const size_t step = static_cast<size_t>(columns);
  for (size_t row = 0; row * step < values.size(); ++row) {
    const auto elements = values.subspan(row * step, step);
    // By its bits: a step turns -0 into +0, so a row of them moves.
    if (std::any_of(elements.begin(), elements.end(),
                    [](float x) { return std::bit_cast<uint32_t>(x) != 0; })) {
      out.push_back(static_cast<int32_t>(row));
    }
  }
  return out;
}

}  // namespace sinklora::internal
