// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/registry.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <stdexcept>
#include <type_traits>
#include <utility>

#include "common/base/log.h"
#include "common/base/mutex.h"

namespace sinklora {
namespace {

class CounterImpl final : public Counter {
 public:
  explicit CounterImpl(prometheus::Counter* metric) : metric_(metric) {}
  void Increment(double by) override { metric_->Increment(by); }
  double Value() const override { return metric_->Value(); }
  prometheus::Counter* metric() { return metric_; }

 private:
  prometheus::Counter* const metric_;
};

class GaugeImpl final : public Gauge {
 public:
  explicit GaugeImpl(prometheus::Gauge* metric) : metric_(metric) {}
  void Set(double value) override { metric_->Set(value); }
  void Add(double by) override { metric_->Increment(by); }
  double Value() const override { return metric_->Value(); }
  prometheus::Gauge* metric() { return metric_; }

 private:
  prometheus::Gauge* const metric_;
};

class HistogramImpl final : public Histogram {
 public:
  explicit HistogramImpl(prometheus::Histogram* metric) : metric_(metric) {}
  void Observe(double value) override { metric_->Observe(value); }

 private:
  prometheus::Histogram* const metric_;
};

// The metrics of one kind, by name and labels, with our wrapper of each.
template <typename Metric, typename Wrapper>
class Families {
 public:
  // `declare` makes the family at first use of the name; `args` make the
  // metric.
  //
  // A name used for two kinds or with two help texts, or an invalid one, is an
  // error of ours that must not take the process down: it is logged, and the
  // caller gets a metric that is not exported.
  template <typename Declare, typename... Args>
  Wrapper* Get(const std::string& name, const Labels& labels,
               const Declare& declare, const Args&... args) {
    std::unique_ptr<Wrapper>& wrapper = wrappers_[{name, labels}];
    if (wrapper != nullptr) return wrapper.get();
    try {
      prometheus::Family<Metric>& family = declare();
      wrapper = std::make_unique<Wrapper>(&family.Add(labels, args...));
      families_[name] = &family;
    } catch (const std::exception& error) {
      LogError("metric {} is not exported: {}", name, error.what());
      detached_.push_back(MakeDetached());
      wrapper = std::make_unique<Wrapper>(detached_.back().get());
    }
    return wrapper.get();
  }

  void Remove(const std::string& name, const Labels& labels) {
    const auto found = wrappers_.find({name, labels});
    const auto family = families_.find(name);
    if (found == wrappers_.end() || family == families_.end()) return;
    family->second->Remove(found->second->metric());
    wrappers_.erase(found);
  }

 private:
  static std::unique_ptr<Metric> MakeDetached() {
    if constexpr (std::is_same_v<Metric, prometheus::Histogram>) {
      return std::make_unique<Metric>(typename Metric::BucketBoundaries{});
    } else {
      return std::make_unique<Metric>();
    }
  }

  std::map<std::string, prometheus::Family<Metric>*> families_;
  std::map<std::pair<std::string, Labels>, std::unique_ptr<Wrapper>> wrappers_;
  std::vector<std::unique_ptr<Metric>> detached_;
};

class RegistryImpl final : public CollectableRegistry {
 private:
  // Runs under mutex_, inside lambdas that the thread-safety analysis cannot
  // follow.
  template <typename Builder>
  decltype(auto) Declare(Builder builder, const std::string& name,
                         const std::string& help)
      ABSL_NO_THREAD_SAFETY_ANALYSIS {
    // The library returns the old family when the help differs, which would
    // hide the second text.
    const std::string& first_help = help_.try_emplace(name, help).first->second;
    if (first_help != help) {
      throw std::invalid_argument("declared with two help texts");
    }
    return builder.Name(name).Help(help).Register(*exported_);
  }

 public:
  Counter* GetCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override {
    MutexLock lock(&mutex_);
    return counters_.Get(name, labels, [&]() -> decltype(auto) {
      return Declare(prometheus::BuildCounter(), name, help);
    });
  }

  Gauge* GetGauge(const std::string& name, const std::string& help,
                  const Labels& labels) override {
    MutexLock lock(&mutex_);
    return gauges_.Get(name, labels, [&]() -> decltype(auto) {
      return Declare(prometheus::BuildGauge(), name, help);
    });
  }

  Histogram* GetHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& buckets,
                          const Labels& labels) override {
    MutexLock lock(&mutex_);
    return histograms_.Get(
        name, labels,
        [&]() -> decltype(auto) {
          return Declare(prometheus::BuildHistogram(), name, help);
        },
        buckets);
  }

  void RemoveGauge(const std::string& name, const Labels& labels) override {
    MutexLock lock(&mutex_);
    gauges_.Remove(name, labels);
  }

  std::string Serialize() const override {
    return prometheus::TextSerializer().Serialize(exported_->Collect());
  }

  std::shared_ptr<prometheus::Collectable> collectable() override {
    return exported_;
  }

 private:
  // Shared with the exposer, which serves scrapes while it holds a reference.
  const std::shared_ptr<prometheus::Registry> exported_ =
      std::make_shared<prometheus::Registry>();
  Mutex mutex_;
  std::map<std::string, std::string> help_ ABSL_GUARDED_BY(mutex_);
  Families<prometheus::Counter, CounterImpl> counters_ ABSL_GUARDED_BY(mutex_);
  Families<prometheus::Gauge, GaugeImpl> gauges_ ABSL_GUARDED_BY(mutex_);
  Families<prometheus::Histogram, HistogramImpl> histograms_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<MetricsRegistry> MetricsRegistry::Create() {
  return std::make_unique<RegistryImpl>();
}

const std::vector<double>& LatencyBuckets() {
  static const auto* const buckets =
      new std::vector<double>{.001, .0025, .005, .01, .025, .05, .1,  .25, .5,
                              1,    2.5,   5,    10,  30,   60,  120, 300, 600};
  return *buckets;
}

const std::vector<double>& TtftBuckets() {
  static const auto* const buckets = new std::vector<double>{
      .001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
      1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
  return *buckets;
}

const std::vector<double>& InterTokenBuckets() {
  static const auto* const buckets = new std::vector<double>{
      .001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3,
      .4,   .5,    .75,  1,   2.5,  5,   7.5,  10, 20,  40, 80};
  return *buckets;
}

}  // namespace sinklora
