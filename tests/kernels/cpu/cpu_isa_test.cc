// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_isa.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "hwy/highway.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "tests/kernels/backends.h"

namespace sinklora::kernels {
namespace {

using cpu::CpuIsa;

const std::vector<CpuIsa> kOldServer = {CpuIsa::kPortable, CpuIsa::kAvx2};

TEST(ParseCpuIsaTest, KnowsEveryNameAndTakesTheBest) {
  const std::vector<CpuIsa> all = {CpuIsa::kPortable, CpuIsa::kAvx2,
                                   CpuIsa::kAvx512, CpuIsa::kAvx512Bf16,
                                   CpuIsa::kAmx};
  CpuIsa isa;
  for (const CpuIsa want : all) {
    ASSERT_TRUE(Ok(cpu::ParseCpuIsa(cpu::NameOf(want), all, &isa)));
    EXPECT_EQ(isa, want);
  }
  ASSERT_TRUE(Ok(cpu::ParseCpuIsa("auto", all, &isa)));
  EXPECT_EQ(isa, CpuIsa::kAmx);
  ASSERT_TRUE(Ok(cpu::ParseCpuIsa("auto", kOldServer, &isa)));
  EXPECT_EQ(isa, CpuIsa::kAvx2);
}

TEST(ParseCpuIsaTest, RefusesByNameWithTheList) {
  CpuIsa isa;
  for (const char* name : {"", "AVX2", "avx10", "auto "}) {
    EXPECT_TRUE(Refused(cpu::ParseCpuIsa(name, kOldServer, &isa),
                        {"cpu_isa is \"" + std::string(name) + "\"",
                         "must be one of auto, avx2, portable"}));
  }
  const Status absent = cpu::ParseCpuIsa("avx512", kOldServer, &isa);
  EXPECT_EQ(absent.code(), StatusCode::kUnavailable);
  EXPECT_EQ(absent.message(),
            "open_backend: cpu_isa is \"avx512\", which this machine or this "
            "build lacks; must be one of auto, avx2, portable");
}

TEST(FixCpuIsaTest, HoldsForTheProcess) {
  const auto backend = Open("cpu");
  const std::string fixed(cpu::NameOf(cpu::ActiveCpuIsa()));
  if (TestedCpuIsa() != "auto") {
    EXPECT_EQ(fixed, TestedCpuIsa());
  }
  EXPECT_TRUE(Ok(cpu::FixCpuIsa("auto")));
  EXPECT_TRUE(Ok(cpu::FixCpuIsa(fixed)));
  std::unique_ptr<Backend> other;
  for (const CpuIsa isa : cpu::AvailableCpuIsas()) {
    const std::string name(cpu::NameOf(isa));
    if (name == fixed) continue;
    EXPECT_TRUE(
        Refused(OpenBackend("cpu", {.cpu_isa = name}, &other),
                {"\"" + name + "\"", "uses " + fixed, "must be auto or that"}));
    EXPECT_EQ(other, nullptr);
  }
  EXPECT_EQ(cpu::NameOf(cpu::ActiveCpuIsa()), fixed);
}

TEST(FixCpuIsaTest, IsTrueForHighwayAndForMatrixProducts) {
  const std::string description = Open("cpu")->description();
  const std::string fixed(cpu::NameOf(cpu::ActiveCpuIsa()));
  EXPECT_NE(description.find(", " + fixed + " ("), std::string::npos)
      << description;
#if defined(__x86_64__)
  const std::map<CpuIsa, std::string> highway = {{CpuIsa::kPortable, "SCALAR"},
                                                 {CpuIsa::kAvx2, "AVX2"},
                                                 {CpuIsa::kAvx512, "AVX3"},
                                                 {CpuIsa::kAvx512Bf16, "AVX3"},
                                                 {CpuIsa::kAmx, "AVX3"}};
  const std::map<CpuIsa, dnnl::cpu_isa> onednn = {
      {CpuIsa::kPortable, dnnl::cpu_isa::sse41},
      {CpuIsa::kAvx2, dnnl::cpu_isa::avx2},
      {CpuIsa::kAvx512, dnnl::cpu_isa::avx512_core},
      {CpuIsa::kAvx512Bf16, dnnl::cpu_isa::avx512_core_bf16},
      {CpuIsa::kAmx, dnnl::cpu_isa::avx512_core_bf16}};
  EXPECT_EQ(cpu::HighwayTargetName(), highway.at(cpu::ActiveCpuIsa()));
  // Highway 1.0 forgets some kinds of bounds when it is asked what there is.
  const int64_t supported = hwy::SupportedTargets();
  EXPECT_EQ(cpu::HighwayTargetName(), highway.at(cpu::ActiveCpuIsa()))
      << supported;
  EXPECT_NE(description.find("Highway " + cpu::HighwayTargetName() + ")"),
            std::string::npos)
      << description;
  // "auto" bounds nothing, and the values are sets of bits.
  if (TestedCpuIsa() != "auto") {
    EXPECT_EQ(dnnl::get_effective_cpu_isa(), onednn.at(cpu::ActiveCpuIsa()));
  }
#endif
  const bool bf16 = description.find("bf16 products") != std::string::npos;
  if (cpu::ActiveCpuIsa() < CpuIsa::kAvx512Bf16) {
    EXPECT_FALSE(bf16);
  }
}

}  // namespace
}  // namespace sinklora::kernels
