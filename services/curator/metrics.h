// The curator's metrics. Declared once here; README.md has the table.
//
// Thread-safe. Borrows the registry.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_METRICS_H_
#define SINKLORA_SERVICES_CURATOR_METRICS_H_

#include <map>
#include <string>

#include "common/metrics/metrics.h"
#include "services/curator/types.h"

namespace sinklora::curator {

class CuratorMetrics {
 public:
  // Creates every metric at 0, so that rates are right from the first event on.
  explicit CuratorMetrics(MetricsRegistry* registry);

  void SetStored(int64_t sources, int64_t datasets);
  void SourceImported(const SourceInfo& source);
  void DatasetCurated(const Counts& counts, double seconds);

 private:
  Counter* kept_records_;
  std::map<std::string, Counter*> rejected_records_;  // by reason
  Counter* source_bytes_;
  Histogram* curate_duration_;
  Gauge* sources_;
  Gauge* datasets_;
};

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_METRICS_H_
