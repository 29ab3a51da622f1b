// SPDX-License-Identifier: Apache-2.0
#include "services/curator/example_file.h"

#include <string>
#include <vector>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

std::vector<TrainingExample> SomeExamples() {
  std::vector<TrainingExample> examples;
  for (int size : {1, 7, 8, 9, 100}) {
    TrainingExample example;
    for (int i = 0; i < size; ++i) {
      example.token_ids.push_back(size * 1000 + i);
      example.supervised.push_back(i % 3 == 1 ? 1 : 0);
    }
    example.document_tokens = {size};
    if (size > 1) example.document_tokens = {size - 1, 1};
    examples.push_back(example);
  }
  return examples;
}

class ExampleFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    path_ = JoinPath(temp_->path(), "examples.bin");
  }
  void Write(const std::vector<TrainingExample>& examples) {
    ASSERT_OK_AND_ASSIGN(const auto writer, ExampleWriter::Create(path_));
    for (const auto& example : examples) ASSERT_OK(writer->Add(example));
    ASSERT_OK_AND_ASSIGN(const std::string digest, writer->Finish());
    ASSERT_OK_AND_ASSIGN(const std::string found, Sha256OfFile(path_));
    EXPECT_EQ(digest, found);
  }
  std::unique_ptr<TempDir> temp_;
  std::string path_;
};

TEST_F(ExampleFileTest, RoundTripInAnyOrder) {
  const auto examples = SomeExamples();
  Write(examples);
  ASSERT_OK_AND_ASSIGN(const auto reader, ExampleReader::Open(path_));
  ASSERT_EQ(reader->example_count(), 5);
  EXPECT_EQ(reader->token_count(), 125);
  for (int64_t i : {4, 0, 2, 1, 3}) {
    ASSERT_OK_AND_ASSIGN(const TrainingExample example, reader->Read(i));
    EXPECT_EQ(example, examples[static_cast<size_t>(i)]);
  }
  EXPECT_THAT(reader->Read(5), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(reader->Read(-1), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(ExampleFileTest, NoExamples) {
  Write({});
  ASSERT_OK_AND_ASSIGN(const auto reader, ExampleReader::Open(path_));
  EXPECT_EQ(reader->example_count(), 0);
}

TEST_F(ExampleFileTest, EveryFlippedBitAndEveryCutIsNoticed) {
  Write(SomeExamples());
  ASSERT_OK_AND_ASSIGN(const std::string good, ReadFile(path_));
  const auto damaged = [&](const std::string& content) {
    if (!WriteUnsynced(path_, content).ok()) return false;
    const auto reader = ExampleReader::Open(path_);
    if (absl::IsDataLoss(reader.status())) return true;
    for (int64_t i = 0; i < (*reader)->example_count(); ++i) {
      if (absl::IsDataLoss((*reader)->Read(i).status())) return true;
    }
    return false;
  };
  // Bytes 12 to 15 are reserved and not read.
  for (size_t i = 0; i < good.size(); i += (i == 11 ? 5 : 1)) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_TRUE(damaged(bad)) << "byte " << i;
  }
  for (size_t size = 0; size < good.size(); size += 13) {
    EXPECT_TRUE(damaged(good.substr(0, size))) << "cut at " << size;
  }
}

TEST_F(ExampleFileTest, MissingFileIsDataLossThatNamesIt) {
  EXPECT_THAT(ExampleReader::Open(path_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("examples.bin")));
}

}  // namespace
}  // namespace sinklora::curator
