// SPDX-License-Identifier: Apache-2.0
#include "common/model/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(OpenDeviceTest, SaysWhatItTook) {
  const auto metrics = MetricsRegistry::Create();
  ASSERT_OK(OpenDevice("inference", "cpu", {.num_threads = 1}, metrics.get()));
  EXPECT_THAT(
      metrics->Serialize(),
      HasSubstr("sinklora_compute_device_info{cuda=\"not_asked\","
                "cuda_graphs=\"none\",device=\"cpu\",part=\"inference\"} 1"));
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
  EXPECT_THAT(
      OpenDevice("inference", "cpu", {.cuda_graphs = "yes"}, metrics.get()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("cuda_graphs is \"yes\", must be one of auto, off")));
  EXPECT_EQ(OpenDevice("worker", "tpu", {}, metrics.get()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

kernels::Status ThreeGpus(int* count) {
  *count = 3;
  return kernels::OkStatus();
}

std::vector<std::string> Parsed(
    const std::string& devices,
    const std::function<kernels::Status(int*)>& count_cuda) {
  const auto names = ParseDevices(devices, count_cuda);
  EXPECT_OK(names);
  return names.ok() ? *names : std::vector<std::string>();
}

kernels::Status NoGpu(int*) {
  return kernels::Status(kernels::StatusCode::kUnavailable, "there is none");
}

TEST(ParseDevicesTest, TakesOneNameAsItIs) {
  for (const char* name : {"auto", "cpu", "reference", "cuda", "cuda:1", "x"}) {
    EXPECT_FALSE(IsDeviceList(name));
    EXPECT_THAT(Parsed(name, NoGpu), ElementsAre(name));
  }
}

TEST(ParseDevicesTest, TakesListsOfGpus) {
  EXPECT_TRUE(IsDeviceList("cuda:1,cuda:0"));
  EXPECT_THAT(Parsed("cuda:1,cuda:0", NoGpu), ElementsAre("cuda:1", "cuda:0"));
  EXPECT_TRUE(IsDeviceList("cuda:all"));
  EXPECT_THAT(Parsed("cuda:all", ThreeGpus),
              ElementsAre("cuda:0", "cuda:1", "cuda:2"));
}

TEST(ParseDevicesTest, RefusesByName) {
  const auto refused = [](const char* devices, const std::string& why) {
    EXPECT_THAT(ParseDevices(devices, ThreeGpus),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(devices), HasSubstr(why))));
  };
  refused("cuda:0,cuda:1,cuda:0", "cuda:0 is named twice");
  refused("cuda:1,cuda:01", "cuda:1 is named twice");
  refused("cpu,cuda:0", "\"cpu\" cannot be in a list, each must be cuda:N");
  refused("cuda:0,auto", "\"auto\" cannot be in a list");
  refused("cuda:0,cuda:all", "\"cuda:all\" cannot be in a list");
  refused("cuda,cuda:1", "\"cuda\" cannot be in a list");
  refused("cuda:0,", "\"\" cannot be in a list");
  refused("cuda:0, cuda:1", "\" cuda:1\" cannot be in a list");
  refused("cuda:0,cuda:-1", "\"cuda:-1\" cannot be in a list");
  EXPECT_THAT(ParseDevices("cuda:all", NoGpu),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cuda:all")));
}

// Only training takes several.
TEST(OpenDeviceTest, RefusesAList) {
  const auto metrics = MetricsRegistry::Create();
  for (const char* devices : {"cuda:0,cuda:1", "cuda:all"}) {
    EXPECT_THAT(OpenDevice("inference", devices, {}, metrics.get()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(devices),
                               HasSubstr("inference computes on one device"))));
  }
}

TEST(OpenDevicesTest, OpensOneAsOpenDeviceDoes) {
  const auto metrics = MetricsRegistry::Create();
  const auto opened =
      OpenDevices("worker", "cpu", {.num_threads = 1}, metrics.get());
  ASSERT_OK(opened);
  ASSERT_EQ(opened->size(), 1u);
  EXPECT_EQ((*opened)[0]->name(), "cpu");
  EXPECT_THAT(
      metrics->Serialize(),
      HasSubstr("sinklora_compute_device_info{cuda=\"not_asked\","
                "cuda_graphs=\"none\",device=\"cpu\",part=\"worker\"} 1"));
}

}  // namespace
}  // namespace sinklora
