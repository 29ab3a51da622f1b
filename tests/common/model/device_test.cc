// SPDX-License-Identifier: Apache-2.0
#include "common/model/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::testing::HasSubstr;

TEST(OpenDeviceTest, SaysWhatItTook) {
  const auto metrics = MetricsRegistry::Create();
  ASSERT_OK(OpenDevice("inference", "cpu", {.num_threads = 1}, metrics.get()));
  EXPECT_THAT(metrics->Serialize(),
              HasSubstr("sinklora_compute_device_info{cuda=\"not_asked\","
                        "device=\"cpu\",part=\"inference\"} 1"));
}

// Whatever this machine has, `auto` answers and says what it took.
TEST(OpenDeviceTest, AutoSaysWhetherItIsCuda) {
  const auto metrics = MetricsRegistry::Create();
  const auto backend =
      OpenDevice("worker", "auto", {.num_threads = 1}, metrics.get());
  ASSERT_OK(backend);
  const bool cuda = (*backend)->name() != "cpu";
  EXPECT_THAT(
      metrics->Serialize(),
      HasSubstr(cuda ? "sinklora_compute_device_info{cuda=\"used\","
                     : "sinklora_compute_device_info{cuda=\"unavailable\","));
}

TEST(OpenDeviceTest, PassesErrorsOn) {
  const auto metrics = MetricsRegistry::Create();
  EXPECT_EQ(OpenDevice("worker", "tpu", {}, metrics.get()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sinklora
