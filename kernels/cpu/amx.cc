// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace sinklora::kernels::cpu {
namespace {

// From the kernel's asm/prctl.h, which older headers lack.
constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr long kTileData = 18;               // XFEATURE_XTILEDATA

bool ProcessorHasAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kTile = 1u << 24, kBf16 = 1u << 22;
  return (d & kTile) != 0 && (d & kBf16) != 0;
}

// What _tile_loadconfig reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  TileConfig() {
    std::fill_n(row_bytes, 8, static_cast<uint16_t>(kTileRowBytes));
    std::fill_n(rows, 8, static_cast<uint8_t>(kTileRows));
  }
};

// GCC 12 does not take a target for constructors and destructors.
SINKLORA_AMX_TARGET void Configure() {
  static const TileConfig config;
  _tile_loadconfig(&config);
}
SINKLORA_AMX_TARGET void Release() { _tile_release(); }

}  // namespace

bool AmxUsable() {
  static const bool usable =
      ProcessorHasAmx() &&
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return usable;
}

TileScope::TileScope() { Configure(); }
TileScope::~TileScope() { Release(); }

}  // namespace sinklora::kernels::cpu
