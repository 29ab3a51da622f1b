// sinklora_build_info{version}: always 1, so that dashboards can say which
// version runs where. Once per process.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_METRICS_BUILD_INFO_H_
#define SINKLORA_COMMON_METRICS_BUILD_INFO_H_

#include "common/metrics/metrics.h"

namespace sinklora {

void ExportBuildInfo(MetricsRegistry* registry);

}  // namespace sinklora

#endif  // SINKLORA_COMMON_METRICS_BUILD_INFO_H_
