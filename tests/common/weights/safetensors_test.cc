// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors.h"

#include <cmath>
#include <cstring>

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
  // Writes length, header and data as given and opens the file.
  absl::StatusOr<std::unique_ptr<SafetensorsFile>> OpenWith(
      const std::string& header, const std::string& data, int64_t length = -1) {
    const uint64_t n = length < 0 ? header.size() : length;
    std::string file(8, '\0');
    std::memcpy(file.data(), &n, 8);
    EXPECT_OK(WriteFileAtomic(path_, file + header + data));
    return SafetensorsFile::Open(path_);
  }
  std::unique_ptr<TempDir> dir_;
  std::string path_;
};

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
  EXPECT_EQ((8 + header_bytes) % 64, 0u);

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
  // 1, -2, the smallest subnormal, 65504, infinity.
  const std::string data("\x00\x3C\x00\xC0\x01\x00\xFF\x7B\x00\x7C", 10);
  ASSERT_OK_AND_ASSIGN(
      const auto file,
      OpenWith(Header(Entry("h", "F16", "[5]", "[0, 10]")), data));
  EXPECT_THAT(
      ToF32(file->tensors().at("h")).value(),
      ElementsAre(1.0f, -2.0f, std::ldexp(1.0f, -24), 65504.0f, INFINITY));
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
      {Header(good), eight, "beyond the file", INT64_MAX},
      {Header(good).substr(1), eight, "not valid JSON"},
      {"[]", "", "expected a JSON object"},
      {Header(good, good), eight, "duplicate key \"t\""},
      {Header(Entry("t", "F31", "[2]", "[0, 8]")), eight,
       "tensor 't': unknown dtype 'F31'"},
      {Header(Entry("t", "F32", "[-2]", "[0, 8]")), eight,
       "shape [-2] has a bad dimension"},
      {Header(Entry("t", "F32", "[2.5]", "[0, 8]")), eight, "bad dimension"},
      {Header(Entry("t", "F32", "2", "[0, 8]")), eight, "must be a list"},
      {Header(Entry("t", "F32", "[3]", "[0, 8]")), eight,
       "shape [3] of F32 does not fill its 8 bytes"},
      {Header(Entry("t", "F32", "[4294967296,4294967296]", "[0, 8]")), eight,
       "overflows"},
      {Header(Entry("t", "F32", "[4611686018427387906]", "[0, 8]")), eight,
       "does not fill"},
      {Header(Entry("t", "F32", "[4611686018427387904,2,0]", "[0, 0]")), "",
       "overflows"},
      {Header(Entry("t", "F32", "[2]", "[0, 16]")), eight,
       "data_offsets [0, 16) pass the end of the data of 8 bytes"},
      {Header(Entry("t", "F32", "[2]", "[8, 0]")), eight, "pass the end"},
      {Header(Entry("t", "F32", "[2]", "[0]")), eight, "two offsets"},
      {Header(Entry("t", "F32", "[2]", "[0, 8.0]")), eight, "two offsets"},
      {Header(Entry("t", "F32", "[1]", "[4, 8]")), eight,
       "hole of 4 bytes before tensor 't'"},
      {Header(Entry("t", "F32", "[1]", "[0, 4]")), eight,
       "hole of 4 bytes behind"},
      {Header(good, Entry("u", "F32", "[1]", "[4, 8]")), eight,
       "tensor 'u' at offset 4 overlaps"},
      {"{\"t\": 3}", "", "must be an object"},
      {"{\"__metadata__\": {\"a\": 1}}", "", "__metadata__"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(OpenWith(c.header, c.data, c.length),
                StatusIs(kInvalid, AllOf(HasSubstr("m.safetensors"),
                                         HasSubstr(c.message))))
        << c.header;
  }
}

TEST_F(SafetensorsTest, OtherFilesAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string("PK\x03\x04zip zip zip", 15), "torch pickle"},
      {"\x80\x02}q\x00 pickle", "torch pickle"},
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

TEST_F(SafetensorsTest, WriterChecksItsInput) {
  EXPECT_THAT(
      WriteSafetensors(path_, {{"t", {FileDType::kF32, {2}, "abc"}}}, {}),
      StatusIs(kInvalid, HasSubstr("tensor 't' has 3 bytes")));
  EXPECT_FALSE(FileExists(path_));
}

}  // namespace
}  // namespace sinklora
