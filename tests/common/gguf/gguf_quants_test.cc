// Conversions against gguf-py's, bit for bit.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_quants.h"

#include <cmath>
#include <limits>
#include <vector>

#include "common/weights/safetensors.h"
#include "tests/common/gguf/gguf_golden.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::FindTensor;
using ::sinklora::testing::GgufGolden;
using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<float> GoldenValues(const GgufFile& file) {
  const GgufTensor* tensor = FindTensor(file, "x.f32");
  return ToF32({FileDType::kF32, tensor->shape, tensor->bytes}).value();
}

TEST(GgufQuantsTest, EveryTypeIsBitIdenticalToGgufPy) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       GgufFile::Open(GgufGolden("quants.gguf")));
  const std::vector<float> values = GoldenValues(*file);
  ASSERT_EQ(values.size(), 12u * 64);
  for (const char* name : {"x.f32", "x.f16", "x.bf16", "x.q8_0"}) {
    const GgufTensor* expected = FindTensor(*file, name);
    ASSERT_NE(expected, nullptr) << name;
    std::string bytes;
    ASSERT_OK(EncodeGguf(values, expected->type, name, &bytes));
    ASSERT_EQ(bytes.size(), expected->bytes.size()) << name;
    EXPECT_TRUE(bytes == expected->bytes)
        << name << " differs first in byte "
        << std::mismatch(bytes.begin(), bytes.end(), expected->bytes.begin())
                   .first -
               bytes.begin();
  }
}

TEST(GgufQuantsTest, Q80DecodesToWithinHalfAStep) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       GgufFile::Open(GgufGolden("quants.gguf")));
  const std::vector<float> values = GoldenValues(*file);
  std::vector<float> decoded(values.size());
  ASSERT_OK(DecodeQ80(FindTensor(*file, "x.q8_0")->bytes, "x", decoded.data()));
  for (size_t b = 0; b < values.size(); b += 32) {
    float largest = 0;
    for (size_t i = b; i < b + 32; ++i) {
      largest = std::max(largest, std::fabs(values[i]));
    }
    // Half a step, the rounding of the scale to f16 (subnormal below 6e-5).
    const float bound = largest / 254 + largest * 0x1p-11f + 127 * 0x1p-25f;
    for (size_t i = b; i < b + 32; ++i) {
      ASSERT_LE(std::fabs(values[i] - decoded[i]), bound) << i;
    }
  }
}

TEST(GgufQuantsTest, MetadataOfGgufPyIsRead) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       GgufFile::Open(GgufGolden("quants.gguf")));
  EXPECT_EQ(file->GetInt("test.uint8", 255).value(), 200);
  EXPECT_EQ(file->GetNumber("test.int8").value(), -100);
  EXPECT_EQ(file->GetInt("test.uint16", 65535).value(), 60000);
  EXPECT_EQ(file->GetNumber("test.int16").value(), -30000);
  EXPECT_EQ(file->GetInt("test.uint32", UINT32_MAX).value(), 4000000000);
  EXPECT_EQ(file->GetNumber("test.int32").value(), -2e9);
  EXPECT_EQ(file->GetInt("test.uint64", INT64_MAX).value(),
            1'000'000'000'000'000'000);
  EXPECT_EQ(file->GetNumber("test.int64").value(), -1e18);
  EXPECT_EQ(file->GetNumber("test.float32").value(), 0.1f);
  EXPECT_EQ(file->GetNumber("test.float64").value(), 0.1);
  EXPECT_EQ(file->GetBool("test.bool").value(), true);
  EXPECT_EQ(file->GetString("test.string").value(), "ümlaut");
  EXPECT_THAT(*file->GetStrings("test.strings").value(),
              ElementsAre("a", "", "日本"));
  EXPECT_THAT(*file->GetFloats("test.floats").value(),
              ElementsAre(0.5f, -2.0f));
  EXPECT_THAT(*file->GetInt32s("test.ints").value(), ElementsAre(1, -1, 7));
}

TEST(GgufQuantsTest, ValuesThatATypeCannotHoldAreNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    GgmlType type;
    float value;
    const char* message;
  };
  const Case cases[] = {
      {GgmlType::kF32, NAN, "the value nan on its way to F32, must be finite"},
      {GgmlType::kF32, -infinity, "the value -inf"},
      {GgmlType::kBf16, NAN, "the value nan on its way to BF16"},
      {GgmlType::kBf16, 3.4e38f, "the value 3.4e+38 on its way to BF16"},
      {GgmlType::kF16, NAN, "the value nan"},
      {GgmlType::kF16, 65520,
       "the value 65520 on its way to F16, must be "
       "finite and in f16's range of +-65504"},
      {GgmlType::kF16, -1e30f, "the value -1e+30"},
      {GgmlType::kQ80, NAN, "the value nan on its way to Q8_0"},
      {GgmlType::kQ80, infinity, "the value inf"},
      {GgmlType::kQ80, 1e7f, "the value 10000000"},
  };
  for (const Case& c : cases) {
    for (const size_t place : {0u, 17u, 31u}) {
      std::vector<float> values(32, 1.0f);
      values[place] = c.value;
      std::string out;
      EXPECT_THAT(
          EncodeGguf(values, c.type, "m: tensor 'w'", &out),
          StatusIs(kInvalid, ::testing::AllOf(HasSubstr("m: tensor 'w' has "),
                                              HasSubstr(c.message))));
    }
  }
  std::string out;
  EXPECT_OK(EncodeGguf(std::vector<float>{65519}, GgmlType::kF16, "w", &out));
  // An infinite scale.
  std::string block(34, '\x01');
  block[0] = '\x00';
  block[1] = '\x7C';
  float decoded[32];
  EXPECT_THAT(DecodeQ80(block, "w", decoded),
              StatusIs(kInvalid, HasSubstr("w has the scale inf in block 0")));
}

// A scale that f16 rounds to zero makes every quant mean zero.
TEST(GgufQuantsTest, TinyValuesBecomeZero) {
  std::vector<float> values(32, std::numeric_limits<float>::denorm_min());
  values[3] = 0;
  std::string block;
  ASSERT_OK(EncodeGguf(values, GgmlType::kQ80, "w", &block));
  float decoded[32];
  ASSERT_OK(DecodeQ80(block, "w", decoded));
  for (const float value : decoded) EXPECT_EQ(value, 0.0f);
}

}  // namespace
}  // namespace sinklora
