// Injected Prometheus registry and its HTTP exposer. Families are declared
// once, with help text, in the metrics.cc of the service that owns them; label
// values come from closed sets, never from a client's string.
//
// Thread-safe. The registry owns all families and metrics; references stay
// valid as long as it lives.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_COMMON_METRICS_METRICS_H_
#define SINKLORA_COMMON_METRICS_METRICS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sinklora {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Increment(double by = 1.0) = 0;  // by >= 0
  virtual double Value() const = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
  virtual void Add(double by) = 0;
  virtual double Value() const = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

class MetricsRegistry {
 public:
  static std::unique_ptr<MetricsRegistry> Create();
  virtual ~MetricsRegistry() = default;

  // Returns the metric of `name` with exactly these labels, created at first
  // use. Names follow Prometheus rules: prefix sinklora_, base unit suffix,
  // counters end in _total. The same name must keep its kind and help.
  virtual Counter* GetCounter(const std::string& name, const std::string& help,
                              const Labels& labels = {}) = 0;
  virtual Gauge* GetGauge(const std::string& name, const std::string& help,
                          const Labels& labels = {}) = 0;
  virtual Histogram* GetHistogram(const std::string& name,
                                  const std::string& help,
                                  const std::vector<double>& buckets,
                                  const Labels& labels = {}) = 0;
  // Drops one labelled gauge, e.g. of a job that ended. Its pointer is invalid
  // afterwards.
  virtual void RemoveGauge(const std::string& name, const Labels& labels) = 0;
  // Prometheus text format 0.0.4.
  virtual std::string Serialize() const = 0;
};

// Bucket bounds shared by all services so that dashboards compare.
const std::vector<double>&
LatencyBuckets();  // RPC and step seconds, 1 ms to 10 min
const std::vector<double>& TtftBuckets();        // time to first token, seconds
const std::vector<double>& InterTokenBuckets();  // seconds between tokens

// Serves GET /metrics on `address` ("127.0.0.1:0" picks a port). Stops on
// destruction.
class MetricsExposer {
 public:
  static absl::StatusOr<std::unique_ptr<MetricsExposer>> Create(
      const std::string& address, MetricsRegistry* registry);
  virtual ~MetricsExposer() = default;
  virtual int port() const = 0;
};

}  // namespace sinklora

#endif  // SINKLORA_COMMON_METRICS_METRICS_H_
