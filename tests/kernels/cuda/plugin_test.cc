// The plugin of this build loads, on a machine with a GPU or without; see
// CMakeLists.txt for where it is.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "kernels/backend.h"

namespace sinklora::kernels {
namespace {

TEST(CudaPluginTest, OpensADeviceOrSaysWhyNot) {
  std::unique_ptr<Backend> backend;
  const Status status = OpenBackend("cuda:0", {}, &backend);
  if (status.ok()) {
    EXPECT_EQ(backend->name(), "cuda:0");
    return;
  }
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status.message();
  // From the plugin, which asked the driver.
  EXPECT_EQ(status.message().rfind("open_backend: cuda:0: cudaError", 0), 0u)
      << status.message();
}

TEST(CudaPluginTest, KnowsHowManyDevicesThereAre) {
  std::unique_ptr<Backend> backend;
  const Status status = OpenBackend("cuda:4095", {}, &backend);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("cuda:4095"), std::string::npos)
      << status.message();
}

}  // namespace
}  // namespace sinklora::kernels
