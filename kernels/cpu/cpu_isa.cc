// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_isa.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "kernels/cpu/amx.h"
#include "oneapi/dnnl/dnnl.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cpu_isa.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sinklora::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sinklora::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sinklora::kernels::cpu {

HWY_EXPORT(TargetName);

namespace {

struct Level {
  CpuIsa isa;
  std::string_view name;
  // Highway targets that dispatch may reach, besides the compiler's baseline.
  int64_t targets;
  // One that must be there.
  int64_t required;
  dnnl::cpu_isa onednn;
};

constexpr std::array<Level, 5> kLevels{{
    {CpuIsa::kPortable, "portable", 0, HWY_STATIC_TARGET, dnnl::cpu_isa::sse41},
    {CpuIsa::kAvx2, "avx2", HWY_AVX2 | HWY_SSE4 | HWY_SSSE3, HWY_AVX2,
     dnnl::cpu_isa::avx2},
    {CpuIsa::kAvx512, "avx512", HWY_AVX3 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3,
     HWY_AVX3, dnnl::cpu_isa::avx512_core},
    {CpuIsa::kAvx512Bf16, "avx512_bf16",
     HWY_AVX3_DL | HWY_AVX3 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3, HWY_AVX3,
     dnnl::cpu_isa::avx512_core_bf16},
    // bf16 products in tiles are ours (matmul/amx_gemm.h): oneDNN has f32 left.
    {CpuIsa::kAmx, "amx",
     HWY_AVX3_DL | HWY_AVX3 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3, HWY_AVX3,
     dnnl::cpu_isa::avx512_core_bf16},
}};

bool ProcessorHasBf16() {
#if HWY_ARCH_X86
  return __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool Has(CpuIsa isa) {
  if (isa < CpuIsa::kAvx512Bf16) return true;  // Highway knows
  if (!ProcessorHasBf16()) return false;
  return isa < CpuIsa::kAmx || AmxUsable();
}

// Of this build on this machine, whatever is fixed.
int64_t HighwayTargets() {
  static const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return targets;
}

// All targets better than the baseline have lower bits than it.
int64_t TargetsAbove(const Level& level) {
  return (HWY_STATIC_TARGET - 1) & ~level.targets;
}

std::vector<CpuIsa> FindAvailable() {
  std::vector<CpuIsa> out;
  for (const Level& level : kLevels) {
    const bool portable = level.isa == CpuIsa::kPortable;
    if (!portable && (HighwayTargets() & level.required) == 0) continue;
    if (!Has(level.isa)) continue;
    out.push_back(level.isa);
  }
  return out;
}

std::string Names(const std::vector<CpuIsa>& isas) {
  std::string out = "auto";
  for (auto it = isas.rbegin(); it != isas.rend(); ++it) {
    out += ", " + std::string(NameOf(*it));
  }
  return out;
}

std::string Prefix(std::string_view name) {
  return "open_backend: cpu_isa is \"" + std::string(name) + "\", ";
}

// oneDNN first: it may refuse, and Highway does not.
Status Bound(const Level& level) {
  if (dnnl::set_max_cpu_isa(level.onednn) != dnnl::status::success) {
    return Status(StatusCode::kUnavailable,
                  Prefix(level.name) +
                      "but oneDNN's instruction set was fixed before, or its "
                      "build cannot bound it; must be auto");
  }
  // Not DisableTargets: with that, every later call of SupportedTargets sets
  // dispatch back to all that the processor has (Highway 1.0).
  hwy::SetSupportedTargetsForTest(HighwayTargets() & ~TargetsAbove(level));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return OkStatus();
}

std::mutex& Mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

// Null until fixed; points into kLevels.
std::atomic<const Level*>& Fixed() {
  static std::atomic<const Level*> fixed{nullptr};
  return fixed;
}

}  // namespace

std::string_view NameOf(CpuIsa isa) {
  return kLevels[static_cast<size_t>(isa)].name;
}

std::vector<CpuIsa> AvailableCpuIsas() {
  static const auto& available = *new std::vector<CpuIsa>(FindAvailable());
  return available;
}

Status ParseCpuIsa(std::string_view name, const std::vector<CpuIsa>& available,
                   CpuIsa* out) {
  if (name == "auto") {
    *out = available.back();
    return OkStatus();
  }
  for (const CpuIsa isa : available) {
    if (NameOf(isa) == name) {
      *out = isa;
      return OkStatus();
    }
  }
  for (const Level& level : kLevels) {
    if (level.name != name) continue;
    return Status(StatusCode::kUnavailable,
                  Prefix(name) +
                      "which this machine or this build lacks; must "
                      "be one of " +
                      Names(available));
  }
  return InvalidArgument(Prefix(name) + "must be one of " + Names(available));
}

Status FixCpuIsa(std::string_view name) {
  CpuIsa isa;
  if (Status status = ParseCpuIsa(name, AvailableCpuIsas(), &isa);
      !status.ok()) {
    return status;
  }
  const std::lock_guard<std::mutex> lock(Mutex());
  const Level* fixed = Fixed().load();
  if (fixed != nullptr) {
    if (name == "auto" || fixed->isa == isa) return OkStatus();
    return InvalidArgument(
        Prefix(name) + "but this process uses " + std::string(fixed->name) +
        " since its first CPU backend; must be auto or that");
  }
  const Level& level = kLevels[static_cast<size_t>(isa)];
  if (name != "auto") {
    if (Status status = Bound(level); !status.ok()) return status;
  }
  Fixed().store(&level);
  return OkStatus();
}

CpuIsa ActiveCpuIsa() {
  const Level* fixed = Fixed().load();
  return fixed != nullptr ? fixed->isa : AvailableCpuIsas().back();
}

std::string HighwayTargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace sinklora::kernels::cpu
#endif  // HWY_ONCE
