// Internal to common/metrics: the registry as the exposer sees it.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_METRICS_REGISTRY_H_
#define SINKLORA_COMMON_METRICS_REGISTRY_H_

#include <prometheus/collectable.h>

#include <memory>

#include "common/metrics/metrics.h"

namespace sinklora {

// Every MetricsRegistry is one of these. Thread-safe.
class CollectableRegistry : public MetricsRegistry {
 public:
  virtual std::shared_ptr<prometheus::Collectable> collectable() = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_METRICS_REGISTRY_H_
