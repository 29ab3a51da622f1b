// SPDX-License-Identifier: Apache-2.0
#include "kernels/validator.h"

#include <cstdio>

namespace sinklora::kernels {
namespace {

const char* NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI8:
      return "i8";
  }
  return "unknown";
}

std::string NamesOf(unsigned dtypes) {
  std::string names;
  for (DType d : {DType::kF32, DType::kBF16, DType::kI32, DType::kI8}) {
    if ((dtypes & (1u << static_cast<int>(d))) == 0) continue;
    if (!names.empty()) names += " or ";
    names += NameOf(d);
  }
  return names;
}

// (operator+ chains make g++ 12 see overlapping copies that are not there.)
std::string Concat(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (std::string_view part : parts) all.append(part);
  return all;
}

std::string Indexed(std::string_view field, std::string_view what,
                    int64_t index) {
  return Concat({field, what, "[", std::to_string(index), "]"});
}

// First and one-past-last byte of a view with non-negative strides.
std::pair<const char*, const char*> ByteRange(const ConstTensorView& view) {
  int64_t last = 0;
  for (int i = 0; i < view.rank; ++i) {
    last += (view.shape[i] - 1) * view.stride[i];
  }
  const char* begin = static_cast<const char*>(view.data);
  return {begin, begin + (last + 1) * SizeOf(view.dtype)};
}

// Two column ranges of one wider matrix interleave without sharing a byte.
bool DisjointColumns(const ConstTensorView& a, const ConstTensorView& b) {
  if (a.rank != 2 || b.rank != 2) return false;
  const int64_t row = a.stride[0] * SizeOf(a.dtype);
  if (row != b.stride[0] * SizeOf(b.dtype) || row == 0) return false;
  const int64_t gap =
      static_cast<const char*>(b.data) - static_cast<const char*>(a.data);
  const int64_t offset = ((gap % row) + row) % row;
  return offset >= a.shape[1] * SizeOf(a.dtype) &&
         offset + b.shape[1] * SizeOf(b.dtype) <= row;
}

bool Overlap(const ConstTensorView& a, const ConstTensorView& b) {
  if (a.num_elements() == 0 || b.num_elements() == 0) return false;
  const auto [a_begin, a_end] = ByteRange(a);
  const auto [b_begin, b_end] = ByteRange(b);
  if (a_end <= b_begin || b_end <= a_begin) return false;
  return !DisjointColumns(a, b);
}

}  // namespace

Validator& Validator::Fail(std::string_view field, const std::string& value,
                           std::string_view limit) {
  if (status_.ok()) {
    status_ = InvalidArgument(
        Concat({op_, ": ", field, " is ", value, ", must be ", limit}));
  }
  return *this;
}

void Validator::CheckDtype(std::string_view field, const ConstTensorView& view,
                           unsigned dtypes) {
  if ((dtypes & (1u << static_cast<int>(view.dtype))) != 0) return;
  Fail(Concat({field, ".dtype"}), NameOf(view.dtype), NamesOf(dtypes));
}

void Validator::CheckExtents(std::string_view field,
                             const ConstTensorView& view,
                             std::initializer_list<Extent> extents) {
  int axis = 0;
  for (const Extent& want : extents) {
    const int64_t got = view.shape[axis];
    if (got < 0) {
      Fail(Indexed(field, ".shape", axis), std::to_string(got), ">= 0");
    }
    if (want.size >= 0 && got != want.size) {
      Fail(Indexed(field, ".shape", axis), std::to_string(got),
           Concat({std::to_string(want.size), " (", want.meaning, ")"}));
    }
    ++axis;
  }
}

void Validator::CheckStrides(std::string_view field,
                             const ConstTensorView& view) {
  const int last = view.rank - 1;
  if (view.num_elements() == 0) return;
  if (view.shape[last] > 1 && view.stride[last] != 1) {
    Fail(Indexed(field, ".stride", last), std::to_string(view.stride[last]),
         "1");
  }
  for (int i = 0; i < last; ++i) {
    const int64_t least = view.rank == 2 ? view.shape[1] : 0;
    if (view.shape[i] > 1 && view.stride[i] < least) {
      Fail(Indexed(field, ".stride", i), std::to_string(view.stride[i]),
           Concat({">= ", std::to_string(least)}));
    }
  }
}

Validator& Validator::Tensor(std::string_view field,
                             const ConstTensorView& view, unsigned dtypes,
                             std::initializer_list<Extent> extents) {
  if (!ok()) return *this;
  const int rank = static_cast<int>(extents.size());
  if (view.rank != rank) {
    return Fail(Concat({field, ".rank"}), std::to_string(view.rank),
                std::to_string(rank));
  }
  CheckDtype(field, view, dtypes);
  CheckExtents(field, view, extents);
  if (ok()) CheckStrides(field, view);
  if (ok() && view.num_elements() > 0) {
    NotNull(Concat({field, ".data"}), view.data);
  }
  return *this;
}

Validator& Validator::OptionalTensor(std::string_view field,
                                     const ConstTensorView& view,
                                     unsigned dtypes,
                                     std::initializer_list<Extent> extents) {
  return view.empty() ? *this : Tensor(field, view, dtypes, extents);
}

Validator& Validator::Flat(std::string_view field, const ConstTensorView& view,
                           unsigned dtypes, Extent elements) {
  if (!ok()) return *this;
  CheckDtype(field, view, dtypes);
  if (view.rank < 0 || view.rank > kMaxRank) {
    Fail(Concat({field, ".rank"}), std::to_string(view.rank), "in [0, 4]");
  }
  if (!ok()) return *this;
  const int64_t n = view.num_elements();
  if (n < 0 || (elements.size >= 0 && n != elements.size)) {
    Fail(Concat({field, ".num_elements"}), std::to_string(n),
         elements.size < 0 ? ">= 0"
                           : Concat({std::to_string(elements.size), " (",
                                     elements.meaning, ")"}));
  }
  if (ok() && n > 0) NotNull(Concat({field, ".data"}), view.data);
  return Contiguous(field, view);
}

Validator& Validator::Contiguous(std::string_view field,
                                 const ConstTensorView& view) {
  if (!ok() || view.num_elements() == 0 || view.contiguous()) return *this;
  return Fail(Concat({field, ".stride"}), "not contiguous", "contiguous");
}

Validator& Validator::NoOverlap(std::string_view field_a,
                                const ConstTensorView& a,
                                std::string_view field_b,
                                const ConstTensorView& b) {
  if (!ok() || a.empty() || b.empty() || !Overlap(a, b)) return *this;
  return Fail(field_a, Concat({"overlapping ", field_b}), "memory of its own");
}

Validator& Validator::Value(bool value_ok, std::string_view field,
                            int64_t value, std::string_view limit) {
  if (!ok() || value_ok) return *this;
  return Fail(field, std::to_string(value), limit);
}

Validator& Validator::Value(bool value_ok, std::string_view field, double value,
                            std::string_view limit) {
  if (!ok() || value_ok) return *this;
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return Fail(field, text, limit);
}

Validator& Validator::NotNull(std::string_view field, const void* pointer) {
  if (!ok() || pointer != nullptr) return *this;
  return Fail(field, "null", "set");
}

Validator& Validator::Range(std::string_view field, const ConstTensorView& view,
                            int64_t low, int64_t high) {
  if (!may_read()) return *this;
  for (int64_t i = 0; i < view.shape[0]; ++i) {
    for (int64_t j = 0; j < view.shape[1]; ++j) {
      const int64_t at =
          i * view.stride[0] + (view.rank > 1 ? j * view.stride[1] : 0);
      const int64_t value = view.as<int32_t>()[at];
      if (value >= low && value < high) continue;
      std::string element = Indexed(field, "", i);
      if (view.rank > 1) element = Indexed(element, "", j);
      return Fail(element, std::to_string(value),
                  Concat({"in [", std::to_string(low), ", ",
                          std::to_string(high), ")"}));
    }
  }
  return *this;
}

Validator& Validator::AscendingRows(const ConstTensorView& rows,
                                    std::string_view field,
                                    const ConstTensorView& of) {
  if (rows.empty() || !ok()) return *this;
  Tensor("rows", rows, kI32, {kAny});
  Value(of.rank == 2, std::string(field) + ".rank", int64_t{of.rank},
        "2 where rows are given");
  Range("rows", rows, 0, of.shape[0]);
  for (int64_t i = 1; may_read() && i < rows.shape[0]; ++i) {
    const int32_t* row = rows.as<int32_t>() + i;
    if (row[0] > row[-1]) continue;
    return Fail(Indexed("rows", "", i), std::to_string(row[0]),
                Concat({"> ", std::to_string(row[-1]), ", the one before"}));
  }
  return *this;
}

}  // namespace sinklora::kernels
