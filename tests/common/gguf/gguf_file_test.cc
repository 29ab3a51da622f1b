// The container: what the writer writes is read back, and every defect of a
// file is found and named.
//
// SPDX-License-Identifier: Apache-2.0
#include "common/gguf/gguf_file.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/files.h"
#include "common/gguf/gguf_writer.h"
#include "fmt/format.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

template <typename T>
std::string Raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}
std::string U32(uint32_t value) { return Raw(value); }
std::string U64(uint64_t value) { return Raw(value); }
std::string Str(const std::string& text) { return U64(text.size()) + text; }

std::string Pair(const std::string& key, GgufValueType type,
                 const std::string& value) {
  return Str(key) + U32(static_cast<uint32_t>(type)) + value;
}
std::string Info(const std::string& name, const std::vector<uint64_t>& dims,
                 uint32_t type, uint64_t offset) {
  std::string out = Str(name) + U32(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) out += U64(dim);
  return out + U32(type) + U64(offset);
}

// A file of these parts, the data behind the next multiple of 32.
std::string File(const std::vector<std::string>& pairs,
                 const std::vector<std::string>& infos,
                 const std::string& data) {
  std::string out = "GGUF" + U32(3) + U64(infos.size()) + U64(pairs.size());
  for (const std::string& pair : pairs) out += pair;
  for (const std::string& info : infos) out += info;
  out.resize((out.size() + 31) / 32 * 32, '\0');
  return out + data;
}

class GgufFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(dir_, TempDir::Create());
    path_ = JoinPath(dir_->path(), "m.gguf");
  }
  std::unique_ptr<TempDir> dir_;
  std::string path_;
};

TEST_F(GgufFileTest, WhatIsWrittenIsRead) {
  GgufHeader header;
  header.AddString("general.architecture", "llama");
  header.AddUint32("llama.block_count", 7);
  header.AddFloat("llama.rope.freq_base", 1e6f);
  header.AddBool("yes", true);
  header.AddStrings("tokens", {"a", "", "\xC3\xA9"});
  header.AddFloats("scores", {0.5f, -1});
  header.AddInt32s("types", {});
  ASSERT_OK(header.AddTensor("m", GgmlType::kBf16, {3, 5}));
  ASSERT_OK(header.AddTensor("v", GgmlType::kF32, {2}));
  ASSERT_OK(header.AddTensor("q", GgmlType::kQ80, {2, 32}));
  ASSERT_OK_AND_ASSIGN(const auto writer, GgufWriter::Create(path_, header));
  const std::string m(30, 'm'), v(8, 'v'), q(68, 'q');
  ASSERT_OK(writer->Append("m", m.substr(0, 11)));
  EXPECT_FALSE(FileExists(path_));
  ASSERT_OK(writer->Append("m", m.substr(11)));
  ASSERT_OK(writer->Append("v", v));
  ASSERT_OK(writer->Append("q", q));
  ASSERT_OK(writer->Finish());

  ASSERT_OK_AND_ASSIGN(const auto file, GgufFile::Open(path_));
  EXPECT_EQ(file->GetString("general.architecture").value(), "llama");
  EXPECT_EQ(file->GetInt("llama.block_count", 7).value(), 7);
  EXPECT_EQ(file->GetNumber("llama.rope.freq_base").value(), 1e6);
  EXPECT_EQ(file->GetBool("yes").value(), true);
  EXPECT_THAT(*file->GetStrings("tokens").value(),
              ElementsAre("a", "", "\xC3\xA9"));
  EXPECT_THAT(*file->GetFloats("scores").value(), ElementsAre(0.5f, -1.0f));
  EXPECT_THAT(*file->GetInt32s("types").value(), ElementsAre());
  EXPECT_EQ(file->GetInt("absent", 7).value(), std::nullopt);
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "m");
  EXPECT_EQ(file->tensors()[0].type, GgmlType::kBf16);
  EXPECT_THAT(file->tensors()[0].shape, ElementsAre(3, 5));
  EXPECT_EQ(file->tensors()[0].bytes, m);
  EXPECT_EQ(file->tensors()[1].bytes, v);
  EXPECT_EQ(file->tensors()[2].bytes, q);
  EXPECT_EQ(ReadFile(path_).value().size() % 32, 0u);
}

TEST_F(GgufFileTest, WriterChecksItsInput) {
  GgufHeader header;
  ASSERT_OK(header.AddTensor("t", GgmlType::kF32, {2}));
  EXPECT_THAT(header.AddTensor("t", GgmlType::kF32, {2}),
              StatusIs(kInvalid, HasSubstr("tensor 't' comes twice")));
  EXPECT_THAT(header.AddTensor("q", GgmlType::kQ80, {2, 33}),
              StatusIs(kInvalid, HasSubstr("tensor 'q' of shape [2, 33] cannot "
                                           "be Q8_0")));
  EXPECT_THAT(header.AddTensor(std::string(64, 'x'), GgmlType::kF32, {2}),
              StatusIs(kInvalid, HasSubstr("name of 64 bytes")));
  EXPECT_THAT(header.AddTensor("r", GgmlType::kF32, {1, 1, 1, 1, 1}),
              StatusIs(kInvalid, HasSubstr("1 to 4 dimensions")));
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, GgufWriter::Create(path_, header));
    EXPECT_THAT(writer->Append("u", "x"),
                StatusIs(absl::StatusCode::kInternal));
    EXPECT_THAT(writer->Append("t", "123456789"),
                StatusIs(absl::StatusCode::kInternal));
    ASSERT_OK(writer->Append("t", "1234"));
    EXPECT_THAT(writer->Finish(), StatusIs(absl::StatusCode::kInternal,
                                           HasSubstr("'t' has 4 of 8 bytes")));
  }
  EXPECT_FALSE(FileExists(path_));
  EXPECT_THAT(ListFilesRecursive(dir_->path()).value(), ElementsAre());
}

TEST_F(GgufFileTest, EveryDefectIsNamed) {
  const std::string eight(8, 'd');
  const std::string good = Info("t", {2}, 0, 0);
  const std::string huge = U64(uint64_t{1} << 62);
  const std::string u8 = Pair("k", GgufValueType::kUint8, "\x01");
  const auto array = [](uint32_t type, uint64_t count,
                        const std::string& rest) {
    return Pair("k", GgufValueType::kArray, U32(type) + U64(count) + rest);
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "is not GGUF"},
      {"GGU", "is not GGUF"},
      {"GGUF", "the version passes the end of the file of 4 bytes"},
      {"GGUF" + U32(1) + U64(0) + U64(0), "GGUF version 1, only"},
      {"GGUF" + U32(4) + U64(0) + U64(0), "GGUF version 4, only"},
      {std::string("GGUF\0\0\0\x03", 8) + eight + eight, "a big-endian file"},
      {"GGUF" + U32(3) + huge + U64(0), "claims 4611686018427387904 tensors"},
      {"GGUF" + U32(3) + U64(0) + huge,
       "claims 4611686018427387904 metadata pairs"},
      {File({Pair("k", GgufValueType::kString, huge)}, {}, ""),
       "key 'k' passes the end"},
      {File({huge}, {}, eight), "key 0 passes the end"},
      {File({Pair("", GgufValueType::kUint8, "x")}, {}, ""), "key 0 is empty"},
      {File({Pair("\xFF", GgufValueType::kUint8, "x")}, {}, ""),
       "key 0 is not UTF-8"},
      {File({Pair("a\nb", GgufValueType::kUint8, "x")}, {}, ""),
       "key 0 has control characters"},
      {File({Pair(std::string(65536, 'k'), GgufValueType::kUint8, "x")}, {},
            ""),
       "key 0 has 65536 bytes, the limit is 65535"},
      {File({u8, u8}, {}, ""), "key 'k' comes twice"},
      {File({Str("k") + U32(13) + eight}, {}, ""),
       "key 'k' has value type 13, must be in [0, 12]"},
      {File({array(9, 1, U32(0) + U64(0))}, {}, ""),
       "key 'k' is an array of array, must be of scalars or strings"},
      {File({array(77, 1, eight)}, {}, ""), "key 'k' is an array of 77"},
      {File({array(4, uint64_t{1} << 62, eight)}, {}, ""),
       "key 'k' claims 4611686018427387904 elements of uint32"},
      {File({array(8, uint64_t{1} << 62, eight)}, {}, ""),
       "key 'k' claims 4611686018427387904 strings"},
      {File({array(8, 2, Str("a") + huge)}, {}, ""), "key 'k'[1] passes"},
      {File({Pair("general.alignment", GgufValueType::kUint32, U32(24))}, {},
            ""),
       "key 'general.alignment' is 24, must be a power of two"},
      {File({Pair("general.alignment", GgufValueType::kUint32, U32(0))}, {},
            ""),
       "key 'general.alignment' is 0"},
      {File({Pair("general.alignment", GgufValueType::kString, Str("32"))}, {},
            ""),
       "key 'general.alignment' is of type string, must be an integer"},
      {File({}, {Info("", {2}, 0, 0)}, eight), "the name of tensor 0 is empty"},
      {File({}, {Info(std::string(64, 'n'), {2}, 0, 0)}, eight),
       "has 64 bytes, the limit is 63"},
      {File({}, {good, good}, eight), "tensor 't' comes twice"},
      {File({}, {Info("t", {}, 0, 0) + eight}, eight),
       "tensor 't' has 0 dimensions, must have 1 to 4"},
      {File({}, {Info("t", {1, 1, 1, 1, 1}, 0, 0)}, eight),
       "tensor 't' has 5 dimensions"},
      {File({}, {Info("t", {0}, 0, 0)}, eight),
       "tensor 't' has dimension 0, must be in [1, 2^63)"},
      {File({}, {Info("t", {uint64_t{1} << 63}, 0, 0)}, eight),
       "dimension 9223372036854775808"},
      {File({}, {Info("t", {uint64_t{1} << 62, 2}, 0, 0)}, eight),
       "shape [2, 4611686018427387904], which overflows"},
      {File({}, {Info("t", {uint64_t{1} << 62}, 0, 0)}, eight),
       "shape [4611686018427387904], which overflows"},
      {File({}, {Info("t", {33}, 8, 0)}, eight),
       "tensor 't' of type Q8_0 has shape [33]"},
      {File({}, {Info("t", {2}, 12, 0)}, eight),
       "tensor 't' is of type Q4_K, only F32, F16, BF16 and Q8_0"},
      {File({}, {Info("t", {2}, 31, 0)}, eight), "tensor 't' is of type 31"},
      {File({}, {Info("t", {2}, 0, 32)}, eight + std::string(32, 'x')),
       "tensor 't' is at offset 32, must be at 0"},
      {File({}, {good, Info("u", {2}, 0, 0)}, eight),
       "tensor 'u' is at offset 0, must be at 32"},
      {File({}, {Info("t", {3}, 0, 0)}, eight),
       "tensor 't' of 12 bytes at offset 0 passes the end"},
      {File({}, {good, Info("u", {2}, 0, 32)}, eight),
       "tensor 'u' of 8 bytes at offset 32 passes the end"},
      {File({}, {good}, std::string(33, 'x')),
       "has 1 bytes behind the last tensor"},
      {("GGUF" + U32(3) + U64(1) + U64(0) + good), "the tensor data passes"},
  };
  for (const auto& [content, message] : cases) {
    EXPECT_THAT(
        GgufFile::Parse(content, "m.gguf"),
        StatusIs(kInvalid, AllOf(HasSubstr("m.gguf: "), HasSubstr(message))));
  }
  EXPECT_OK(GgufFile::Parse(File({u8}, {good}, eight), "m.gguf"));
  EXPECT_THAT(GgufFile::Open(path_), StatusIs(absl::StatusCode::kNotFound));
}

// Truncation anywhere but in the last padding is found, and nothing is read
// beyond the end.
TEST_F(GgufFileTest, TruncationAnywhereIsAnError) {
  const std::string whole = File(
      {Pair("general.name", GgufValueType::kString, Str("x")),
       Pair("a", GgufValueType::kArray, U32(8) + U64(2) + Str("b") + Str("c"))},
      {Info("t", {2}, 0, 0), Info("u", {2, 2}, 1, 32)}, std::string(40, 'd'));
  EXPECT_OK(GgufFile::Parse(whole, "m"));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(GgufFile::Parse(whole.substr(0, size), "m"), StatusIs(kInvalid))
        << size;
  }
}

TEST_F(GgufFileTest, ValuesOfOtherTypesAreNamed) {
  const std::string content =
      File({Pair("neg", GgufValueType::kInt8, "\xFF"),
            Pair("big", GgufValueType::kUint64, U64(UINT64_MAX)),
            Pair("i16", GgufValueType::kInt16, Raw(int16_t{300})),
            Pair("u16", GgufValueType::kUint16, Raw(uint16_t{65535})),
            Pair("i32", GgufValueType::kInt32, Raw(int32_t{-2})),
            Pair("i64", GgufValueType::kInt64, Raw(int64_t{5})),
            Pair("f64", GgufValueType::kFloat64, Raw(0.25)),
            Pair("nan", GgufValueType::kFloat32, Raw(std::nanf(""))),
            Pair("b2", GgufValueType::kBool, "\x02"),
            Pair("s", GgufValueType::kString, Str("x")),
            Pair("a", GgufValueType::kArray, U32(5) + U64(1) + U32(9))},
           {}, "");
  ASSERT_OK_AND_ASSIGN(const auto file, GgufFile::Parse(content, "m"));
  EXPECT_EQ(file->GetInt("i16", 300).value(), 300);
  EXPECT_EQ(file->GetInt("u16", 65535).value(), 65535);
  EXPECT_EQ(file->GetInt("i64", 9).value(), 5);
  EXPECT_EQ(file->GetNumber("f64").value(), 0.25);
  EXPECT_EQ(file->GetNumber("i32").value(), -2.0);
  EXPECT_THAT(*file->GetInt32s("a").value(), ElementsAre(9));
  EXPECT_THAT(
      file->GetInt("neg", 9),
      StatusIs(kInvalid, HasSubstr("key 'neg' is -1, must be in [0, 9]")));
  EXPECT_THAT(file->GetInt("i16", 299),
              StatusIs(kInvalid, HasSubstr("is 300")));
  EXPECT_THAT(file->GetInt("big", INT64_MAX),
              StatusIs(kInvalid, HasSubstr("is 18446744073709551615")));
  EXPECT_THAT(file->GetInt("a", 9),
              StatusIs(kInvalid, HasSubstr("key 'a' is an array of int32, must "
                                           "be an integer")));
  EXPECT_THAT(file->GetNumber("nan"),
              StatusIs(kInvalid, HasSubstr("must be finite")));
  EXPECT_THAT(file->GetNumber("s"),
              StatusIs(kInvalid, HasSubstr("must be a number")));
  EXPECT_THAT(file->GetBool("b2"),
              StatusIs(kInvalid, HasSubstr("must be 0 or 1")));
  EXPECT_THAT(file->GetBool("s"), StatusIs(kInvalid, HasSubstr("a bool")));
  EXPECT_THAT(file->GetString("nan"),
              StatusIs(kInvalid, HasSubstr("is of type float32, must be a "
                                           "string")));
  EXPECT_THAT(file->GetStrings("a"),
              StatusIs(kInvalid, HasSubstr("must be an array of string")));
  EXPECT_THAT(file->GetFloats("s"),
              StatusIs(kInvalid, HasSubstr("must be an array of float32")));
}

}  // namespace
}  // namespace sinklora
