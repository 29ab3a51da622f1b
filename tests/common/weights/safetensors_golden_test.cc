// Files that the reference implementation wrote, and its verdict on files that
// are spoilt: tests/parity/make_safetensors_goldens.py.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>

#include "absl/strings/escaping.h"
#include "common/base/files.h"
#include "common/weights/safetensors.h"
#include "common/weights/safetensors_writer.h"
#include "common/weights/weight_index.h"
#include "nlohmann/json.hpp"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::nlohmann::json;
using ::sinklora::testing::StatusIs;
using ::testing::IsEmpty;

class SafetensorsGoldenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* root = std::getenv("SINKLORA_SOURCE_DIR");
    ASSERT_NE(root, nullptr) << "SINKLORA_SOURCE_DIR is not set";
    goldens_ = JoinPath(root, "tests/parity/data/safetensors");
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
  }
  std::string Golden(const std::string& name) {
    return JoinPath(goldens_, name);
  }
  std::string Read(const std::string& path) {
    return ReadFile(path).value_or("cannot read " + path);
  }

  std::string goldens_;
  std::unique_ptr<TempDir> temp_;
};

TEST_F(SafetensorsGoldenTest, EveryTypeIsReadAndWrittenBackAsTheSameBytes) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       SafetensorsFile::Open(Golden("types.safetensors")));
  std::set<FileDType> seen;
  for (const auto& [name, tensor] : file->tensors()) {
    seen.insert(tensor.dtype);
    if (const auto dtype = ParseFileDType(name)) {
      EXPECT_EQ(tensor.dtype, *dtype) << name;
    }
  }
  // All but the two of six bits, which the library has no way to write.
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_EQ(file->metadata().size(), 2u);
  EXPECT_EQ(file->tensors().count("näme \"\\\n\x1f\x7f/🙂"), 1u);
  const std::string copy = JoinPath(temp_->path(), "copy");
  ASSERT_OK(WriteSafetensors(copy, file->tensors(), file->metadata()));
  EXPECT_TRUE(Read(copy) == Read(Golden("types.safetensors")));
}

TEST_F(SafetensorsGoldenTest, ValuesAreTheLibrarys) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       SafetensorsFile::Open(Golden("values.safetensors")));
  for (const char* name : {"f32", "f16", "bf16"}) {
    const StoredTensor& stored = file->tensors().at(name);
    ASSERT_OK_AND_ASSIGN(const auto values, ToF32(stored));
    ASSERT_OK_AND_ASSIGN(const auto expected,
                         ToF32(file->tensors().at(std::string(name) + ".f32")));
    ASSERT_EQ(values.size(), expected.size());
    ASSERT_GT(values.size(), 1000u);
    int64_t first = -1;
    for (size_t i = 0; i < values.size(); ++i) {
      if (first < 0 && !std::isfinite(expected[i])) first = i;
      if (std::isnan(expected[i])) {
        EXPECT_TRUE(std::isnan(values[i])) << name << " " << i;
      } else {
        EXPECT_EQ(values[i], expected[i]) << name << " " << i;
        EXPECT_EQ(std::signbit(values[i]), std::signbit(expected[i]));
      }
    }
    EXPECT_EQ(FirstNonFinite(stored), first) << name;
    if (stored.dtype != FileDType::kBF16) continue;
    // And back: the values round to the same bf16.
    const TensorBytes bytes(expected.data(), stored.shape, FileDType::kBF16);
    const StoredTensor again = bytes.view();
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(expected[i])) continue;
      EXPECT_EQ(again.bytes.substr(2 * i, 2), stored.bytes.substr(2 * i, 2));
    }
  }
}

TEST_F(SafetensorsGoldenTest, AModelInShardsIsWrittenAsTheLibraryWritesIt) {
  ASSERT_OK_AND_ASSIGN(const ModelWeights whole,
                       OpenModelWeights(Golden("one")));
  const json order = json::parse(Read(Golden("order.json")));
  std::vector<TensorSpec> specs;
  for (const json& name : order) {
    const StoredTensor& tensor =
        whole.tensors.at(name.get<std::string>()).tensor;
    specs.push_back({name, tensor.dtype, tensor.shape});
  }
  ASSERT_EQ(specs.size(), whole.tensors.size());
  for (const auto& [form, limit] :
       {std::pair("shards", 600), std::pair("one", 1000000)}) {
    const std::string out = JoinPath(temp_->path(), form);
    ASSERT_OK(MakeDirs(out));
    ASSERT_OK_AND_ASSIGN(
        const auto writer,
        ModelWeightsWriter::Create(out, specs, {{"format", "pt"}}, limit));
    for (const TensorSpec& spec : writer->tensors()) {
      ASSERT_OK(
          writer->Append(spec.name, whole.tensors.at(spec.name).tensor.bytes));
    }
    ASSERT_OK(writer->Finish());
    ASSERT_OK_AND_ASSIGN(const auto files, ListFilesRecursive(out));
    EXPECT_EQ(files, ListFilesRecursive(Golden(form)).value());
    for (const std::string& file : files) {
      const std::string ours = Read(JoinPath(out, file));
      const std::string theirs = Read(JoinPath(Golden(form), file));
      if (file != kWeightIndexFile) {
        EXPECT_TRUE(ours == theirs) << file;
        continue;
      }
      const json a = json::parse(ours), b = json::parse(theirs);
      EXPECT_EQ(a["weight_map"], b["weight_map"]);
      EXPECT_EQ(a["metadata"]["total_size"], b["metadata"]["total_size"]);
    }
  }
}

TEST_F(SafetensorsGoldenTest, VerdictsAreTheLibrarysOrTheFormatsOwn) {
  // The format's description forbids what the library lets pass: keys that
  // come twice, anything before the brace, metadata that is not a map. A field
  // that nobody defined could change the meaning of the others.
  const std::set<std::string> stricter = {"space first", "duplicate tensor",
                                          "unknown field", "metadata null",
                                          "metadata {\"a\":\"b\",\"a\":\"c\"}"};
  const json verdicts = json::parse(Read(Golden("verdicts.json")));
  std::set<std::string> seen;
  int opened = 0;
  for (const json& verdict : verdicts["files"]) {
    const auto name = verdict["name"].get<std::string>();
    std::string file;
    ASSERT_TRUE(
        absl::Base64Unescape(verdict["file"].get<std::string>(), &file));
    const auto content = ParseSafetensors(file, "golden");
    opened += content.ok();
    if (stricter.contains(name)) {
      EXPECT_TRUE(verdict["opens"].get<bool>()) << name;
      EXPECT_THAT(content, StatusIs(absl::StatusCode::kInvalidArgument))
          << name;
      seen.insert(name);
    } else {
      EXPECT_EQ(content.ok(), verdict["opens"].get<bool>())
          << name << ": " << content.status();
    }
  }
  EXPECT_EQ(seen, stricter);
  EXPECT_GT(opened, 10);
  EXPECT_GT(verdicts["files"].size(), 80u);
}

}  // namespace
}  // namespace sinklora
