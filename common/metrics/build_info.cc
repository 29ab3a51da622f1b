// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/build_info.h"

namespace sinklora {

void ExportBuildInfo(MetricsRegistry* registry) {
  registry
      ->GetGauge("sinklora_build_info", "Version of this program; always 1.",
                 {{"version", SINKLORA_VERSION}})
      ->Set(1);
}

}  // namespace sinklora
