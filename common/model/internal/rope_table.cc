// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/rope_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/weights/rope_frequencies.h"

namespace sinklora::internal {
namespace {

// Rows that serve every sequence up to them.
int64_t SharedRows(const LlamaConfig& config, int64_t context_tokens) {
  return DependsOnLength(config)
             ? std::min(context_tokens, config.max_position_embeddings)
             : context_tokens;
}

}  // namespace

absl::StatusOr<RopeTable> RopeTable::Create(kernels::Backend* backend,
                                            const LlamaConfig& config,
                                            double factor,
                                            std::span<const int64_t> lengths) {
  const int64_t half = config.head_dim / 2;
  const int64_t rows =
      std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  std::vector<float> cosines, sines;
  cosines.reserve(static_cast<size_t>(rows * half));
  sines.reserve(cosines.capacity());
  for (const int64_t length : lengths) {
    const RopeFrequencies frequencies =
        ComputeRopeFrequencies(config, factor, length);
    for (int64_t p = 0; p < length; ++p) {
      for (const double inverse : frequencies.inverse) {
        const double angle = static_cast<double>(p) * inverse;
        cosines.push_back(
            static_cast<float>(frequencies.attention * std::cos(angle)));
        sines.push_back(
            static_cast<float>(frequencies.attention * std::sin(angle)));
      }
    }
  }
  RopeTable out;
  SL_ASSIGN_OR_RETURN(
      out.cos,
      DeviceTensor::Create(backend, kernels::DType::kF32, {rows, half}));
  SL_ASSIGN_OR_RETURN(
      out.sin,
      DeviceTensor::Create(backend, kernels::DType::kF32, {rows, half}));
  SL_RETURN_IF_ERROR(Upload(backend, cosines, out.cos.view()));
  SL_RETURN_IF_ERROR(Upload(backend, sines, out.sin.view()));
  return out;
}

absl::StatusOr<RopeTables> RopeTables::Create(kernels::Backend* backend,
                                              const LlamaConfig& config,
                                              double factor,
                                              int64_t context_tokens) {
  RopeTables out;
  out.backend_ = backend;
  out.config_ = config;
  out.factor_ = factor;
  out.shared_rows_ = SharedRows(config, context_tokens);
  SL_ASSIGN_OR_RETURN(
      RopeTable table,
      RopeTable::Create(backend, config, factor, {&out.shared_rows_, 1}));
  out.shared_ = std::make_shared<const RopeTable>(std::move(table));
  return out;
}

int64_t RopeTables::SizeBytes(const LlamaConfig& config, int64_t context_tokens,
                              int64_t tokens) {
  const int64_t shared = SharedRows(config, context_tokens);
  const int64_t own = shared < context_tokens ? tokens : 0;
  return RopeTable::SizeBytes(shared + own, config.head_dim);
}

absl::StatusOr<std::shared_ptr<const RopeTable>> RopeTables::ForLength(
    int64_t length) const {
  if (length <= shared_rows_) return shared_;
  SL_ASSIGN_OR_RETURN(
      RopeTable table,
      RopeTable::Create(backend_, config_, factor_, {&length, 1}));
  return std::make_shared<const RopeTable>(std::move(table));
}

absl::StatusOr<std::shared_ptr<const RopeTable>> RopeTables::ForDocuments(
    std::span<const int64_t> lengths, std::vector<int32_t>* rows) const {
  // Where the rows of a document begin, by its length; all that fit the shared
  // table have its rows.
  std::map<int64_t, int64_t> begin;
  std::vector<int64_t> tables;
  int64_t total = 0;
  rows->clear();
  for (const int64_t length : lengths) {
    const int64_t table = std::max(length, shared_rows_);
    if (begin.try_emplace(table, total).second) {
      tables.push_back(table);
      total += table;
    }
    for (int64_t p = 0; p < length; ++p) {
      rows->push_back(static_cast<int32_t>(begin[table] + p));
    }
  }
  if (tables.empty() || total == shared_rows_) return shared_;
  SL_ASSIGN_OR_RETURN(RopeTable table,
                      RopeTable::Create(backend_, config_, factor_, tables));
  return std::make_shared<const RopeTable>(std::move(table));
}

}  // namespace sinklora::internal
