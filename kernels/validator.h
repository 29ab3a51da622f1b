// Fluent checks of op params. The first failure wins and later checks are
// skipped, so a chain may use fields that earlier links have vouched for.
// Messages read "<op>: <field> is <value>, must be <limit>".
//
//   return Validator("rms_norm_forward")
//       .Tensor("x", p.x, kF32, {{-1, ""}, {-1, ""}})
//       .Tensor("out", p.out, kF32, {{p.x.shape[0], "rows of x"}, ...})
//       .status();
//
// Thread-compatible; owns nothing.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_VALIDATOR_H_
#define SINKLORA_KERNELS_VALIDATOR_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinklora::kernels {

// Sets of dtypes a field accepts.
inline constexpr unsigned kF32 = 1u << static_cast<int>(DType::kF32);
inline constexpr unsigned kBF16 = 1u << static_cast<int>(DType::kBF16);
inline constexpr unsigned kI32 = 1u << static_cast<int>(DType::kI32);
inline constexpr unsigned kI8 = 1u << static_cast<int>(DType::kI8);
inline constexpr unsigned kFloat = kF32 | kBF16;

// Wanted extent of one dimension; -1 accepts any extent >= 0.
struct Extent {
  int64_t size = -1;
  std::string_view meaning = "";
};
inline constexpr Extent kAny{};

// Where the elements are that a contract bounds. A backend whose memory the
// host cannot read passes kOnDevice and has its kernels check them.
enum class Values { kOnHost, kOnDevice };

class Validator {
 public:
  explicit Validator(std::string_view op, Values values = Values::kOnHost)
      : op_(op), values_(values) {}

  // Dtype, rank, extents, data present unless empty, unit last stride, and
  // strides that do not run backwards. Rank-2 rows must not overlap.
  Validator& Tensor(std::string_view field, const ConstTensorView& view,
                    unsigned dtypes, std::initializer_list<Extent> extents);
  // As above, but an absent tensor (no data) is accepted.
  Validator& OptionalTensor(std::string_view field, const ConstTensorView& view,
                            unsigned dtypes,
                            std::initializer_list<Extent> extents);
  // Any rank, contiguous, of the given element count (-1: any).
  Validator& Flat(std::string_view field, const ConstTensorView& view,
                  unsigned dtypes, Extent elements);
  Validator& Contiguous(std::string_view field, const ConstTensorView& view);
  // The two views share no byte.
  Validator& NoOverlap(std::string_view field_a, const ConstTensorView& a,
                       std::string_view field_b, const ConstTensorView& b);
  Validator& Value(bool ok, std::string_view field, int64_t value,
                   std::string_view limit);
  Validator& Value(bool ok, std::string_view field, double value,
                   std::string_view limit);
  Validator& NotNull(std::string_view field, const void* pointer);
  // Every element of the i32 tensor (any strides) lies in [low, high). Not
  // looked at with kOnDevice.
  Validator& Range(std::string_view field, const ConstTensorView& view,
                   int64_t low, int64_t high);

  // The optional `rows` of a flat tensor: i32 [any], ascending, indices of rows
  // of `of`, which then has rank 2. Not looked at with kOnDevice.
  Validator& AscendingRows(const ConstTensorView& rows, std::string_view field,
                           const ConstTensorView& of);

  bool ok() const { return status_.ok(); }
  // Whether checks may read elements: all passed so far, and the host can.
  bool may_read() const { return ok() && values_ == Values::kOnHost; }
  const Status& status() const { return status_; }

 private:
  Validator& Fail(std::string_view field, const std::string& value,
                  std::string_view limit);
  void CheckDtype(std::string_view field, const ConstTensorView& view,
                  unsigned dtypes);
  void CheckExtents(std::string_view field, const ConstTensorView& view,
                    std::initializer_list<Extent> extents);
  void CheckStrides(std::string_view field, const ConstTensorView& view);

  std::string_view op_;
  Values values_;
  Status status_;
};

}  // namespace sinklora::kernels

#endif  // SINKLORA_KERNELS_VALIDATOR_H_
