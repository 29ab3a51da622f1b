// The instruction set that the CPU kernels use, one for the process.
//
// Highway dispatches by one process-wide setting and oneDNN takes its bound
// before its first primitive, so the choice cannot be one of a backend's: the
// first CPU backend of the process fixes it for all. Thread-safe.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_KERNELS_CPU_CPU_ISA_H_
#define SINKLORA_KERNELS_CPU_CPU_ISA_H_

#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"

namespace sinklora::kernels::cpu {

// Ascending: each holds the ones before it.
enum class CpuIsa {
  kPortable,    // what the compiler may assume: baseline x86-64, NEON, ...
  kAvx2,        // and FMA
  kAvx512,      // F, BW, CD, DQ, VL: servers since 2017
  kAvx512Bf16,  // and BF16, VNNI: since 2020, AMD since Zen 4
  kAmx,         // and tiles with bf16 products: Intel since Sapphire Rapids
};

// "portable", "avx2", "avx512", "avx512_bf16", "amx".
std::string_view NameOf(CpuIsa isa);

// Those that this build has kernels for and this machine can run; ascending,
// never empty.
std::vector<CpuIsa> AvailableCpuIsas();

// One of `available` by its name, or the last for "auto". kInvalidArgument for
// a name that is unknown, kUnavailable for one that is not available, both with
// the list of names.
Status ParseCpuIsa(std::string_view name, const std::vector<CpuIsa>& available,
                   CpuIsa* out);

// Fixes the instruction set of the process, for the Highway kernels and for
// oneDNN. "auto" takes what is fixed already, or the best there is; then the
// environment's ONEDNN_MAX_CPU_ISA may bound the matrix products further.
// Errors change nothing: those of ParseCpuIsa, kInvalidArgument for another
// name than what is fixed, kUnavailable where oneDNN takes no bound any more.
Status FixCpuIsa(std::string_view name);

// What is fixed; the best one before that. Kernels written outside of Highway
// ask this, and not the processor, before they use an instruction.
CpuIsa ActiveCpuIsa();

// What Highway dispatches to now, by its own name, e.g. "AVX3".
std::string HighwayTargetName();

}  // namespace sinklora::kernels::cpu

#endif  // SINKLORA_KERNELS_CPU_CPU_ISA_H_
