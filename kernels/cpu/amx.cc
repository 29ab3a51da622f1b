// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

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

  explicit TileConfig(int64_t columns = kTileColumns) {
    std::fill_n(row_bytes, 8, static_cast<uint16_t>(columns * 4));
    std::fill_n(row_bytes + 4, 2, static_cast<uint16_t>(kTileRowBytes));
    std::fill_n(rows, 8, static_cast<uint8_t>(kTileRows));
  }
};

// By columns - 1. In memory, as GCC 12 does not know what is read of it.
using TileConfigs = std::array<TileConfig, kTileColumns>;
const TileConfigs& Configs() {
  static const TileConfigs configs = [] {
    TileConfigs all;
    for (int64_t i = 0; i < kTileColumns; ++i) all[i] = TileConfig(i + 1);
    return all;
  }();
  return configs;
}

// GCC 12 does not take a target for constructors and destructors.
SINKLORA_AMX_TARGET void Configure(int64_t columns) {
  _tile_loadconfig(&Configs()[columns - 1]);
}
SINKLORA_AMX_TARGET void Release() { _tile_release(); }

}  // namespace

bool AmxUsable() {
  static const bool usable =
      ProcessorHasAmx() &&
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return usable;
}

TileScope::TileScope(int64_t columns) { Configure(columns); }
TileScope::~TileScope() { Release(); }

}  // namespace sinklora::kernels::cpu
