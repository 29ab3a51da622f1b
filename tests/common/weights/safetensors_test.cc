// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "common/base/files.h"
#include "fmt/format.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class SafetensorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
    path_ = JoinPath(dir_->path(), "m.safetensors");
  }
  std::unique_ptr<TempDir> dir_;
  std::string path_;
};

// Length, header and data as given.
std::string FileOf(const std::string& header, const std::string& data,
                   int64_t length = -1) {
  const uint64_t n = length < 0 ? header.size() : length;
  std::string file(8, '\0');
  std::memcpy(file.data(), &n, 8);
  return file + header + data;
}

std::string Entry(const std::string& name, const std::string& dtype,
                  const std::string& shape, const std::string& offsets) {
  return fmt::format(
      R"("{}": {{"dtype": "{}", "shape": {}, "data_offsets": {}}})", name,
      dtype, shape, offsets);
}

std::string Header(const std::string& first, const std::string& second = "") {
  return fmt::format("{{{}{}{}}}", first, second.empty() ? "" : ",", second);
}

TEST_F(SafetensorsTest, RoundTripKeepsValuesAndBytes) {
  const std::vector<float> a = {1, -2.5f, 3e-9f, 4, 5, 6};
  const std::vector<float> b = {1.0f, 0.333f};
  const TensorBytes a_bytes(a.data(), {2, 3}, FileDType::kF32);
  const TensorBytes b_bytes(b.data(), {2}, FileDType::kBF16);
  const std::map<std::string, StoredTensor> tensors = {
      {"z.a", a_bytes.view()},
      {"b", b_bytes.view()},
      {"empty", {FileDType::kI64, {0, 7}, ""}},
      {"scalar", {FileDType::kU8, {}, "x"}}};
  ASSERT_OK(WriteSafetensors(path_, tensors, {{"format", "pt"}}));
  const std::string bytes = ReadFile(path_).value();
  ASSERT_OK(WriteSafetensors(path_, tensors, {{"format", "pt"}}));
  EXPECT_EQ(ReadFile(path_).value(), bytes);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);

  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(path_));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(ToF32(file->tensors().at("z.a")).value(), a);
  EXPECT_THAT(file->tensors().at("z.a").shape, ElementsAre(2, 3));
  EXPECT_THAT(ToF32(file->tensors().at("b")).value(),
              ElementsAre(1.0f, 0.33203125f));
  EXPECT_EQ(file->tensors().at("scalar").bytes, "x");
  EXPECT_THAT(ToF32(file->tensors().at("scalar")),
              StatusIs(kInvalid, HasSubstr("U8")));
}

TEST_F(SafetensorsTest, HalfPrecisionValues) {
  // 1, -2, the smallest subnormal, the largest, 65504, infinity, minus zero.
  const std::string data(
      "\x00\x3C\x00\xC0\x01\x00\xFF\x03\xFF\x7B\x00\x7C\x00\x80", 14);
  const std::string file =
      FileOf(Header(Entry("h", "F16", "[7]", "[0, 14]")), data);
  ASSERT_OK_AND_ASSIGN(const auto content, ParseSafetensors(file, "m"));
  const auto values = ToF32(content.tensors.at("h")).value();
  EXPECT_THAT(values,
              ElementsAre(1.0f, -2.0f, std::ldexp(1.0f, -24),
                          std::ldexp(1023.0f, -24), 65504.0f, INFINITY, -0.0f));
  EXPECT_TRUE(std::signbit(values[6]));
}

// Every float16 there is, against its definition.
TEST_F(SafetensorsTest, EveryHalfHasItsValue) {
  std::string data;
  for (int bits = 0; bits < 65536; ++bits) {
    data += static_cast<char>(bits & 0xFF);
    data += static_cast<char>(bits >> 8);
  }
  const StoredTensor tensor{FileDType::kF16, {65536}, data};
  const std::vector<float> values = ToF32(tensor).value();
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 0x1F, mantissa = bits & 0x3FF;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(values[bits]), mantissa != 0) << bits;
      EXPECT_EQ(std::isinf(values[bits]), mantissa == 0) << bits;
      continue;
    }
    const double value = exponent == 0
                             ? std::ldexp(mantissa, -24)
                             : std::ldexp(1024 + mantissa, exponent - 25);
    EXPECT_EQ(values[bits], sign * value) << bits;
  }
}

// The data of a tensor starts wherever the header and the tensors before it
// end.
TEST_F(SafetensorsTest, UnalignedTensorsAreRead) {
  for (size_t shift = 0; shift < 8; ++shift) {
    const std::string pad(shift, 'x');
    const float one[] = {1.0f, -3.5f};
    std::string data = pad;
    data.append(reinterpret_cast<const char*>(one), sizeof one);
    const std::string file = FileOf(
        Header(Entry("a", "U8", fmt::format("[{}]", shift),
                     fmt::format("[0, {}]", shift)),
               Entry("b", "F32", "[2]",
                     fmt::format("[{}, {}]", shift, shift + sizeof one))),
        data);
    ASSERT_OK_AND_ASSIGN(const auto content, ParseSafetensors(file, "m"));
    const StoredTensor& b = content.tensors.at("b");
    EXPECT_THAT(ToF32(b).value(), ElementsAre(1.0f, -3.5f));
    EXPECT_EQ(FirstNonFinite(b), std::nullopt);
  }
}

// A file may hold tensors that no model here can use.
TEST_F(SafetensorsTest, EveryTypeOfTheFormatOpensAndOnlyFloatsConvert) {
  const std::pair<const char*, int> types[] = {
      {"BOOL", 8},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6},
      {"U8", 8},          {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8},
      {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"I16", 16},    {"U16", 16},
      {"F8_E5M2FNUZ", 8}, {"F16", 16},        {"BF16", 16},   {"I32", 32},
      {"U32", 32},        {"F32", 32},        {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  for (const auto& [name, bits] : types) {
    const int bytes = 8 * bits / 8;
    const std::string file = FileOf(
        Header(Entry("t", name, "[2, 4]", fmt::format("[0, {}]", bytes))),
        std::string(bytes, '\0'));
    const auto content = ParseSafetensors(file, "m");
    ASSERT_OK(content);
    const StoredTensor& tensor = content->tensors.at("t");
    EXPECT_EQ(FileDTypeName(tensor.dtype), name);
    EXPECT_EQ(tensor.bytes.size(), static_cast<size_t>(bytes));
    if (IsFloat(tensor.dtype)) {
      EXPECT_OK(ToF32(tensor));
    } else {
      EXPECT_THAT(ToF32(tensor), StatusIs(kInvalid, HasSubstr(name)));
    }
    EXPECT_THAT(AllFileDTypes(), HasSubstr(name));
  }
  // Three elements of four bits end within a byte.
  EXPECT_THAT(ParseSafetensors(
                  FileOf(Header(Entry("t", "F4", "[3]", "[0, 2]")), "ab"), "m"),
              StatusIs(kInvalid, HasSubstr("no whole number of bytes")));
}

TEST_F(SafetensorsTest, FirstNonFiniteFindsTheFirst) {
  constexpr int64_t kCount = 10000;
  for (const int64_t at :
       {int64_t{0}, int64_t{1}, int64_t{4095}, int64_t{4096}, kCount - 1}) {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
      std::vector<float> values(kCount, 3e38f);
      values[at] = bad;
      values[kCount - 1] = bad;
      for (const FileDType dtype : {FileDType::kF32, FileDType::kBF16}) {
        const TensorBytes bytes(values.data(), {kCount}, dtype);
        EXPECT_EQ(FirstNonFinite(bytes.view()), at);
      }
    }
  }
  const std::string halves("\xFF\x7B\x00\x80\x00\xFC", 6);  // 65504, -0, -inf
  EXPECT_EQ(FirstNonFinite({FileDType::kF16, {3}, halves}), 2);
  EXPECT_EQ(FirstNonFinite({FileDType::kF16, {2}, halves.substr(0, 4)}),
            std::nullopt);
  EXPECT_EQ(FirstNonFinite({FileDType::kF32, {0, 3}, ""}), std::nullopt);
  const std::string ones(8, '\xFF');
  EXPECT_EQ(FirstNonFinite({FileDType::kI32, {2}, ones}), std::nullopt);
}

TEST_F(SafetensorsTest, EveryDefectIsNamed) {
  const std::string eight(8, '\0');
  const std::string good = Entry("t", "F32", "[2]", "[0, 8]");
  struct Case {
    std::string header;
    std::string data;
    std::string message;
    int64_t length = -1;
  };
  const Case cases[] = {
      {Header(good), eight, "beyond the file", 1000},
      {Header(good), eight, "over the limit of 100000000",
       int64_t{1} << 40},  // a terabyte
      {Header(good), eight, "over the limit", INT64_MAX},
      {"", "", "does not start with '{'"},
      {Header(good).substr(1), eight, "does not start with '{'"},
      {fmt::format(" {}", Header(good)), eight, "does not start with '{'"},
      {"[]", "", "does not start with '{'"},
      {Header(good) + ",", eight, "not valid JSON"},
      {Header(good) + std::string(1, '\0') + "{}", eight, "has a NUL byte"},
      {"{\"t\xFF\": {}}", "", "not valid JSON"},
      {Header(good, good), eight, "duplicate key \"t\""},
      {R"({"t": {"shape": [], "shape": []}})", "", "duplicate key \"shape\""},
      {R"({"t": {"dtype": "U8", "dtype": "U8"}})", "", "key \"dtype\""},
      {R"({"t": {"data_offsets": [0,0], "data_offsets": [0,0]}})", "",
       "duplicate key \"data_offsets\""},
      {R"({"__metadata__": {}, "__metadata__": {}})", "",
       "duplicate key \"__metadata__\""},
      {R"({"__metadata__": {"a": "1", "a": "1"}})", "", "duplicate key \"a\""},
      {R"({"t": {"dtype": "U8", "shape": [0]}})", "",
       "tensor 't': data_offsets is missing"},
      {R"({"t": {"dtype": "U8", "data_offsets": [0,0]}})", "",
       "tensor 't': shape is missing"},
      {R"({"t": {"shape": [0], "data_offsets": [0,0]}})", "",
       "tensor 't': dtype is missing"},
      {R"({"t": {"bits": 4}})", "",
       "tensor 't': key \"bits\" is not dtype, shape or data_offsets"},
      {R"({"t": {"dtype": null}})", "", "dtype is null, must be a string"},
      {Header(Entry("t", "F31", "[2]", "[0, 8]")), eight,
       "tensor 't': dtype \"F31\" is not one of F32, F16, BF16, "},
      {Header(Entry("t", "F32", "[-2]", "[0, 8]")), eight, "shape has -2"},
      {Header(Entry("t", "F32", "[2.5]", "[0, 8]")), eight, "shape has 2.5"},
      {Header(Entry("t", "F32", "[1e0]", "[0, 4]")), eight, "shape has 1e0"},
      {Header(Entry("t", "F32", "[[2]]", "[0, 8]")), eight, "shape has a list"},
      {Header(Entry("t", "F32", "[9223372036854775808]", "[0, 8]")), eight,
       "shape has 9223372036854775808"},
      {Header(Entry("t", "F32", "2", "[0, 8]")), eight, "must be a list"},
      {Header(Entry("t", "F32", "[3]", "[0, 8]")), eight,
       "shape [3] of F32 needs 12 bytes, data_offsets [0, 8) have 8"},
      {Header(Entry("t", "F32", "[4294967296,4294967296]", "[0, 8]")), eight,
       "no whole number of bytes"},
      {Header(Entry("t", "F32", "[4611686018427387906]", "[0, 8]")), eight,
       "no whole number of bytes"},
      {Header(Entry("t", "F32", "[4611686018427387904,2,0]", "[0, 0]")), "",
       "no whole number of bytes"},
      {Header(Entry("t", "F32", "[2]", "[0, 16]")), eight,
       "data_offsets [0, 16) pass the end of the data of 8 bytes"},
      {Header(Entry("t", "F32", "[2]", "[0, 18446744073709551615]")), eight,
       "pass the end"},
      {Header(Entry("t", "F32", "[2]", "[8, 0]")), eight, "pass the end"},
      {Header(Entry("t", "F32", "[2]", "[0]")), eight, "a list of 1, must be"},
      {Header(Entry("t", "F32", "[2]", "[0, 4, 8]")), eight, "two offsets"},
      {Header(Entry("t", "F32", "[2]", "[0, 8.0]")), eight, "two offsets"},
      {Header(Entry("t", "F32", "[2]", "[-0, 8]")), eight, "two offsets"},
      {Header(Entry("t", "F32", "[2]", "{}")), eight, "an object, must be two"},
      {Header(Entry("t", "F32", "[1]", "[4, 8]")), eight,
       "hole of 4 bytes before tensor 't'"},
      {Header(Entry("t", "F32", "[1]", "[0, 4]")), eight,
       "hole of 4 bytes behind"},
      {"{}", "x", "hole of 1 bytes behind"},
      {Header(good, Entry("u", "F32", "[1]", "[4, 8]")), eight,
       "tensor 'u' at offset 4 overlaps"},
      {Header(good, Entry("u", "F32", "[0]", "[4, 4]")), eight,
       "tensor 'u' at offset 4 overlaps"},
      {"{\"t\": 3}", "", "must be an object"},
      {"{\"t\": [[[[", "", "tensor 't' is a list, must be an object"},
      {"{\"__metadata__\": {\"a\": 1}}", "",
       "__metadata__ \"a\" is 1, must be a string"},
      {"{\"__metadata__\": {\"a\": {}}}", "", "\"a\" is an object"},
      {"{\"__metadata__\": null}", "", "__metadata__ is null"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(
        ParseSafetensors(FileOf(c.header, c.data, c.length), "x/m"),
        StatusIs(kInvalid, AllOf(HasSubstr("x/m"), HasSubstr(c.message))))
        << c.header;
  }
}

// Nesting, counts and names are limited before they cost memory.
TEST_F(SafetensorsTest, HostileHeadersAreStoppedEarly) {
  const std::string deep = "{\"__metadata__\":" + std::string(1 << 20, '[');
  EXPECT_THAT(ParseSafetensors(FileOf(deep, ""), "m"),
              StatusIs(kInvalid, HasSubstr("__metadata__ is a list")));
  std::string ranks = "{\"t\":{\"shape\":[1";
  for (int i = 0; i < 100; ++i) ranks += ",1";
  EXPECT_THAT(ParseSafetensors(FileOf(ranks + "]}}", ""), "m"),
              StatusIs(kInvalid, HasSubstr("more than 64 dimensions")));
  std::string many = "{";
  for (int i = 0; i <= 1 << 17; ++i) {
    many += fmt::format(
        "\"{}\":{{\"dtype\":\"U8\",\"shape\":[0],"
        "\"data_offsets\":[0,0]}},",
        i);
  }
  EXPECT_THAT(ParseSafetensors(FileOf(many, ""), "m"),
              StatusIs(kInvalid, HasSubstr("more than 131072 tensors")));
  std::string keys = "{\"__metadata__\":{";
  for (int i = 0; i <= 1 << 17; ++i) keys += fmt::format("\"{}\":\"\",", i);
  EXPECT_THAT(ParseSafetensors(FileOf(keys, ""), "m"),
              StatusIs(kInvalid, HasSubstr("more than 131072 keys")));
  const std::string name = "\\u001b[31m" + std::string(100000, 'n');
  const auto refused =
      ParseSafetensors(FileOf("{\"" + name + "\": 1}", ""), "m");
  EXPECT_THAT(refused, StatusIs(kInvalid, HasSubstr("tensor '\\x1b[31mnnn")));
  EXPECT_LT(refused.status().message().size(), 400u);
}

TEST_F(SafetensorsTest, WhatTheFormatAllowsIsRead) {
  // Nothing at all, padding, escapes, scalars, empty tensors anywhere between
  // others, data in another order than the header's, a header with fields in
  // any order.
  EXPECT_OK(ParseSafetensors(FileOf("{}", ""), "m"));
  EXPECT_OK(ParseSafetensors(FileOf("{}  \n\t ", ""), "m"));
  const std::string header =
      R"({"b\u0041\n": {"data_offsets": [4, 6], "shape": [], "dtype": "BF16"},
          "__metadata__": {"format": "pt", "": ""},
          "e": {"dtype": "F32", "shape": [3, 0, 9], "data_offsets": [4, 4]},
          "a": {"dtype": "U8", "shape": [2, 2], "data_offsets": [0, 4]},
          "": {"dtype": "I64", "shape": [0], "data_offsets": [6, 6]}})";
  const std::string file = FileOf(header, "abcdef");
  ASSERT_OK_AND_ASSIGN(const auto content, ParseSafetensors(file, "m"));
  ASSERT_EQ(content.tensors.size(), 4u);
  EXPECT_EQ(content.tensors.at("bA\n").bytes, "ef");
  EXPECT_EQ(content.tensors.at("a").bytes, "abcd");
  EXPECT_EQ(content.tensors.at("e").num_elements(), 0);
  EXPECT_EQ(content.metadata.size(), 2u);
}

TEST_F(SafetensorsTest, OtherFilesAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string("PK\x03\x04zip zip zip", 15), "torch pickle"},
      {"\x80\x02}q\x00 pickle", "torch pickle"},
      {"\x80\x05", "torch pickle"},
      {"\x80\x02}q\x00 pickle", "weights_only=True"},
      {"GGUFxxxxxxxxxxx", "GGUF"},
      {"version https://git-lfs.github.com/spec/v1\n", "Git LFS"},
      {"abc", "has 3 bytes"},
      {"", "has 0 bytes"}};
  for (const auto& [content, message] : cases) {
    ASSERT_OK(WriteFileAtomic(path_, content));
    EXPECT_THAT(SafetensorsFile::Open(path_),
                StatusIs(kInvalid, HasSubstr(message)));
  }
  EXPECT_THAT(SafetensorsFile::Open(path_ + "x"),
              StatusIs(absl::StatusCode::kNotFound));
  // A header of 640 bytes starts like a pickle of protocol 2.
  const std::string header = "{}" + std::string(638, ' ');
  ASSERT_TRUE(IsTorchPickle(FileOf(header, "")));
  EXPECT_OK(ParseSafetensors(FileOf(header, ""), "m"));
}

// Truncation anywhere is found, and nothing is read beyond the end.
TEST_F(SafetensorsTest, TruncationAnywhereIsAnError) {
  const std::vector<float> values(10, 1.5f);
  const TensorBytes bytes(values.data(), {10}, FileDType::kF32);
  ASSERT_OK(WriteSafetensors(path_, {{"t", bytes.view()}}, {}));
  const std::string whole = ReadFile(path_).value();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_OK(WriteFileAtomic(path_, whole.substr(0, size)));
    EXPECT_THAT(SafetensorsFile::Open(path_), StatusIs(kInvalid)) << size;
  }
}

// Rss of the mapping of `path`, in bytes.
int64_t ResidentBytes(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  bool ours = false;
  int64_t total = 0, kib = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) ours = line.ends_with(path);
    if (ours && std::sscanf(line.c_str(), "Rss: %ld kB", &kib) == 1) {
      total += kib << 10;
    }
  }
  return total;
}

// Opening maps a file of 15 GB and reads its header only.
TEST_F(SafetensorsTest, OpeningTouchesNoTensor) {
  constexpr uint64_t kBytes = 15'000'000'000;
  const std::string header =
      Header(Entry("t", "BF16", fmt::format("[{}]", kBytes / 2),
                   fmt::format("[0, {}]", kBytes)));
  ASSERT_OK(WriteFileAtomic(path_, FileOf(header, "")));
  if (truncate(path_.c_str(), 8 + header.size() + kBytes) != 0) {
    GTEST_SKIP() << "no sparse file of 15 GB in " << path_;
  }
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(path_));
  const std::string_view bytes = file->tensors().at("t").bytes;
  ASSERT_EQ(bytes.size(), kBytes);
  // The kernel maps some pages around the one that is read.
  constexpr int64_t kAround = 2 << 20;
  const int64_t resident = ResidentBytes(path_);
  EXPECT_GT(resident, 0);
  EXPECT_LT(resident, kAround);
  EXPECT_EQ(bytes.back(), '\0');
  EXPECT_GT(ResidentBytes(path_), resident) << "the measure sees no page";
}

}  // namespace
}  // namespace sinklora
