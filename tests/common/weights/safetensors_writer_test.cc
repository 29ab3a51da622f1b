// SPDX-License-Identifier: Apache-2.0
#include "common/weights/safetensors_writer.h"

#include "common/base/files.h"
#include "common/weights/safetensors.h"
#include "common/weights/weight_index.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class SafetensorsWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    dir_ = temp_->path();
    path_ = JoinPath(dir_, "m.safetensors");
  }
  std::vector<std::string> Files() { return ListFilesRecursive(dir_).value(); }

  std::unique_ptr<TempDir> temp_;
  std::string dir_;
  std::string path_;
};

template <typename Writer>
std::vector<std::string> Names(const Writer& writer) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : writer.tensors()) names.push_back(spec.name);
  return names;
}

// Bytes that tell which tensor they are of.
std::string BytesFor(const TensorSpec& spec) {
  std::string bytes(*StoredBytes(spec.dtype, spec.shape), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(spec.name.back() + i);
  }
  return bytes;
}

template <typename Writer>
absl::Status AppendAll(Writer* writer) {
  for (const TensorSpec& spec : writer->tensors()) {
    const absl::Status status = writer->Append(spec.name, BytesFor(spec));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

const std::vector<TensorSpec>& Mixed() {
  static const std::vector<TensorSpec> specs = {
      {"b", FileDType::kU8, {3}},  {"e", FileDType::kI16, {0, 4}},
      {"z", FileDType::kF32, {2}}, {"a", FileDType::kF32, {}},
      {"d", FileDType::kI64, {1}}, {"c", FileDType::kBF16, {5}}};
  return specs;
}

TEST_F(SafetensorsWriterTest, PiecesOfAnySizeGiveTheSameFile) {
  std::string expected;
  for (const size_t piece : {1, 3, 1000}) {
    ASSERT_OK_AND_ASSIGN(
        const auto writer,
        SafetensorsWriter::Create(path_, Mixed(), {{"format", "pt"}}));
    EXPECT_THAT(Names(*writer), ElementsAre("d", "a", "z", "c", "e", "b"));
    for (const TensorSpec& spec : writer->tensors()) {
      const std::string bytes = BytesFor(spec);
      for (size_t i = 0; i < bytes.size(); i += piece) {
        ASSERT_OK(writer->Append(spec.name, bytes.substr(i, piece)));
      }
    }
    ASSERT_OK(writer->Finish());
    ASSERT_OK_AND_ASSIGN(const std::string written, ReadFile(path_));
    if (expected.empty()) expected = written;
    EXPECT_EQ(written, expected);
  }
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsFile::Open(path_));
  std::map<std::string, StoredTensor> tensors = file->tensors();
  ASSERT_EQ(tensors.size(), Mixed().size());
  for (const TensorSpec& spec : Mixed()) {
    const StoredTensor& tensor = tensors.at(spec.name);
    EXPECT_EQ(tensor.bytes, BytesFor(spec)) << spec.name;
    EXPECT_EQ(tensor.shape, spec.shape) << spec.name;
    const uint64_t width = FileDTypeBits(spec.dtype) / 8;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % width, 0u)
        << spec.name;
  }
  // The other way to write is the same.
  const std::string other = JoinPath(dir_, "other");
  ASSERT_OK(WriteSafetensors(other, tensors, {{"format", "pt"}}));
  EXPECT_EQ(ReadFile(other).value(), expected);
}

TEST_F(SafetensorsWriterTest, NothingIsVisibleBeforeFinish) {
  {
    ASSERT_OK_AND_ASSIGN(const auto writer,
                         SafetensorsWriter::Create(path_, Mixed(), {}));
    ASSERT_OK(AppendAll(writer.get()));
    EXPECT_FALSE(FileExists(path_));
  }
  EXPECT_THAT(Files(), ElementsAre());
  ASSERT_OK_AND_ASSIGN(const auto empty,
                       SafetensorsWriter::Create(path_, {}, {}));
  ASSERT_OK(empty->Finish());
  EXPECT_OK(SafetensorsFile::Open(path_));
}

TEST_F(SafetensorsWriterTest, BytesMustBeThoseDeclared) {
  const std::vector<TensorSpec> two = {{"a", FileDType::kU8, {2}},
                                       {"b", FileDType::kU8, {2}}};
  ASSERT_OK_AND_ASSIGN(const auto writer,
                       SafetensorsWriter::Create(path_, two, {}));
  EXPECT_THAT(writer->Append("b", "xx"),
              StatusIs(kInvalid, HasSubstr("the turn of tensor 'a'")));
  EXPECT_THAT(writer->Append("a", "xxx"),
              StatusIs(kInvalid, HasSubstr("tensor 'a' gets 3 bytes, its "
                                           "shape [2] needs 2")));
  ASSERT_OK(writer->Append("a", "x"));
  EXPECT_THAT(writer->Finish(),
              StatusIs(kInvalid, HasSubstr("tensor 'a' has 1 bytes")));
  ASSERT_OK(writer->Append("a", "x"));
  ASSERT_OK(writer->Append("b", "xx"));
  EXPECT_THAT(writer->Append("b", "x"),
              StatusIs(kInvalid, HasSubstr("every tensor")));
  ASSERT_OK(writer->Finish());
}

TEST_F(SafetensorsWriterTest, WhatCouldNotBeReadIsNotWritten) {
  const FileDType u8 = FileDType::kU8;
  const std::pair<std::vector<TensorSpec>, const char*> cases[] = {
      {{{"t", u8, {1}}, {"t", u8, {1}}}, "tensor 't' is declared twice"},
      {{{"__metadata__", u8, {1}}}, "reserved"},
      {{{"t\xFF", u8, {1}}}, "not UTF-8"},
      {{{"t", u8, {-1}}}, "shape [-1] of U8"},
      {{{"t", u8, {INT64_MAX, 2}}}, "tensor 't': shape"},
      {{{"t", FileDType::kF4, {3}}}, "tensor 't': shape [3] of F4"},
      {{{"t", u8, std::vector<int64_t>(65, 1)}}, "65 dimensions"},
      {{{"t", u8, {INT64_MAX}}, {"u", u8, {INT64_MAX}}, {"v", u8, {INT64_MAX}}},
       "more than 2^64 bytes"}};
  for (const auto& [specs, message] : cases) {
    EXPECT_THAT(SafetensorsWriter::Create(path_, specs, {}),
                StatusIs(kInvalid, HasSubstr(message)));
    EXPECT_THAT(ModelWeightsWriter::Create(dir_, specs, {}, 1000),
                StatusIs(kInvalid, HasSubstr(message)));
  }
  EXPECT_THAT(SafetensorsWriter::Create(path_, {}, {{"a", "\xFF"}}),
              StatusIs(kInvalid, HasSubstr("metadata \"a\"")));
  std::vector<TensorSpec> many((1 << 17) + 1);
  for (size_t i = 0; i < many.size(); ++i) {
    many[i] = {std::to_string(i), u8, {0}};
  }
  EXPECT_THAT(SafetensorsWriter::Create(path_, many, {}),
              StatusIs(kInvalid, HasSubstr("131073 tensors")));
  EXPECT_THAT(
      WriteSafetensors(path_, {{"t", {FileDType::kF32, {2}, "abc"}}}, {}),
      StatusIs(kInvalid, HasSubstr("tensor 't' has 3 bytes")));
  EXPECT_THAT(Files(), ElementsAre());
}

TEST_F(SafetensorsWriterTest, WeightsAreSplitAndNamedAsTransformersDoes) {
  // Dealt in order: a (6) and b (3) fit in 10; c (12) is alone beyond the
  // limit; d (4) and e (6) fill one.
  const FileDType u8 = FileDType::kU8;
  const std::vector<TensorSpec> specs = {{"b", u8, {6}},
                                         {"a", u8, {3}},
                                         {"c", u8, {12}},
                                         {"e", u8, {4}},
                                         {"d", u8, {2, 3}}};
  ASSERT_OK_AND_ASSIGN(
      const auto writer,
      ModelWeightsWriter::Create(dir_, specs, {{"format", "pt"}}, 10));
  EXPECT_THAT(Names(*writer), ElementsAre("a", "b", "c", "d", "e"));
  ASSERT_OK(AppendAll(writer.get()));
  EXPECT_FALSE(FileExists(JoinPath(dir_, kWeightIndexFile)));
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(Files(), ElementsAre("model-00001-of-00003.safetensors",
                                   "model-00002-of-00003.safetensors",
                                   "model-00003-of-00003.safetensors",
                                   kWeightIndexFile));
  const std::string index = ReadFile(JoinPath(dir_, kWeightIndexFile)).value();
  EXPECT_EQ(json::parse(index)["metadata"]["total_size"], 31);
  ASSERT_OK_AND_ASSIGN(const WeightMap map, ParseWeightIndex(index, "i"));
  EXPECT_EQ(map.at("b"), "model-00001-of-00003.safetensors");
  EXPECT_EQ(map.at("c"), "model-00002-of-00003.safetensors");
  EXPECT_EQ(map.at("d"), "model-00003-of-00003.safetensors");
  ASSERT_OK_AND_ASSIGN(const ModelWeights weights, OpenModelWeights(dir_));
  ASSERT_EQ(weights.tensors.size(), specs.size());
  for (const TensorSpec& spec : specs) {
    EXPECT_EQ(weights.tensors.at(spec.name).tensor.bytes, BytesFor(spec));
  }
}

TEST_F(SafetensorsWriterTest, WeightsBelowTheLimitAreOneFile) {
  ASSERT_OK_AND_ASSIGN(const auto writer,
                       ModelWeightsWriter::Create(dir_, Mixed(), {}));
  ASSERT_OK(AppendAll(writer.get()));
  EXPECT_FALSE(FileExists(JoinPath(dir_, kSingleWeightsFile)));
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(Files(), ElementsAre(kSingleWeightsFile));
  // Shards beside it would be ambiguous.
  EXPECT_THAT(ModelWeightsWriter::Create(dir_, Mixed(), {}, 10),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr("model.safetensors")));
}

TEST_F(SafetensorsWriterTest, DroppedWeightsLeaveNothing) {
  for (const size_t appended : {0, 1, 5, 6}) {
    ASSERT_OK_AND_ASSIGN(auto writer,
                         ModelWeightsWriter::Create(dir_, Mixed(), {}, 10));
    for (size_t i = 0; i < appended; ++i) {
      const TensorSpec& spec = writer->tensors()[i];
      ASSERT_OK(writer->Append(spec.name, BytesFor(spec)));
    }
    if (appended < Mixed().size()) {
      EXPECT_THAT(writer->Finish(), StatusIs(kInvalid));
    }
    writer = nullptr;
    EXPECT_THAT(Files(), ElementsAre()) << appended;
  }
}

}  // namespace
}  // namespace sinklora
