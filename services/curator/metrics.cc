// SPDX-License-Identifier: Apache-2.0
#include "services/curator/metrics.h"

#include "services/curator/reject_reason.h"

namespace sinklora::curator {
namespace {

Counter* RecordsCounter(MetricsRegistry* registry, const std::string& outcome,
                        const std::string& reason) {
  return registry->GetCounter(
      "sinklora_curator_records_total",
      "Input records of finished curations, by what became of them.",
      {{"outcome", outcome}, {"reason", reason}});
}

}  // namespace

CuratorMetrics::CuratorMetrics(MetricsRegistry* registry)
    : kept_records_(RecordsCounter(registry, "kept", "NONE")),
      source_bytes_(registry->GetCounter(
          "sinklora_curator_source_bytes_total",
          "Bytes of normalised text in imported sources.")),
      curate_duration_(registry->GetHistogram(
          "sinklora_curator_curate_duration_seconds",
          "Time to build and commit a dataset.", LatencyBuckets())),
      sources_(registry->GetGauge("sinklora_curator_sources",
                                  "Sources that are stored.")),
      datasets_(registry->GetGauge("sinklora_curator_datasets",
                                   "Datasets that are stored.")) {
  for (const RejectReason reason : kRejectReasons) {
    const char* name = RejectReasonName(reason);
    rejected_records_[name] = RecordsCounter(registry, "rejected", name);
  }
}

void CuratorMetrics::SetStored(int64_t sources, int64_t datasets) {
  sources_->Set(static_cast<double>(sources));
  datasets_->Set(static_cast<double>(datasets));
}

void CuratorMetrics::SourceImported(const SourceInfo& source) {
  source_bytes_->Increment(static_cast<double>(source.text_bytes));
  sources_->Add(1);
}

void CuratorMetrics::DatasetCurated(const Counts& counts, double seconds) {
  kept_records_->Increment(static_cast<double>(counts.kept_records));
  for (const auto& [reason, records] : counts.rejected_records) {
    rejected_records_.at(reason)->Increment(static_cast<double>(records));
  }
  curate_duration_->Observe(seconds);
  datasets_->Add(1);
}

}  // namespace sinklora::curator
