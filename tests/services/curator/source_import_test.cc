// SPDX-License-Identifier: Apache-2.0
#include "services/curator/source_import.h"

#include <string>
#include <vector>

#include "tests/testing/matchers.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<std::vector<Record>> Parse(const std::string& file,
                                          SourceFormat format,
                                          const std::string& content) {
  std::vector<Record> records;
  const absl::Status status =
      ParseSourceFile(file, format, content, [&](Record record) {
        records.push_back(std::move(record));
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return records;
}

absl::StatusOr<std::vector<Record>> ParseText(const std::string& content) {
  return Parse("a.txt", SourceFormat::kPlainText, content);
}
absl::StatusOr<std::vector<Record>> ParseRecords(const std::string& content) {
  return Parse("a.jsonl", SourceFormat::kInstruction, content);
}

TEST(SourceImportTest, PlainTextLosesByteOrderMarkAndCarriageReturns) {
  ASSERT_OK_AND_ASSIGN(const auto records,
                       ParseText("\xEF\xBB\xBFone\r\ntwo\rthree\n"));
  ASSERT_THAT(records, SizeIs(1));
  EXPECT_EQ(records[0].text, "one\ntwo\nthree\n");
  EXPECT_EQ(records[0].file, "a.txt");
}

TEST(SourceImportTest, EmptyFileIsOneEmptyDocument) {
  ASSERT_OK_AND_ASSIGN(const auto records, ParseText(""));
  ASSERT_THAT(records, SizeIs(1));
  EXPECT_TRUE(IsBlank(records[0]));
}

TEST(SourceImportTest, NonUtf8NamesFileOffsetAndByte) {
  EXPECT_THAT(
      ParseText("abc\xE9\nmore"),
      StatusIs(kInvalid, AllOf(HasSubstr("\"a.txt\""), HasSubstr("byte 3"),
                               HasSubstr("0xE9"))));
  EXPECT_THAT(ParseRecords("{\"instruction\":\"\xFF\"}"),
              StatusIs(kInvalid, HasSubstr("byte 16")));
}

TEST(SourceImportTest, JsonLinesAreRecordsAndBlankLinesAreNot) {
  ASSERT_OK_AND_ASSIGN(
      const auto records,
      ParseRecords("\xEF\xBB\xBF{\"instruction\":\"a\\r\\nb\",\"output\":\"c\"}"
                   "\r\n\r\n"
                   "{\"instruction\":\"d\",\"input\":\"e\",\"output\":\"f\","
                   "\"extra\":[1,{}]}\n"));
  ASSERT_THAT(records, SizeIs(2));
  EXPECT_EQ(records[0].instruction, "a\nb");
  EXPECT_EQ(records[0].input, "");
  EXPECT_EQ(records[1].input, "e");
  EXPECT_EQ(records[1].output, "f");
  EXPECT_EQ(records[1].index, 1);
}

TEST(SourceImportTest, ListEqualsLines) {
  const std::string one = R"({"instruction":"a","input":null,"output":"b"})";
  const std::string two = R"({"instruction":"c","input":"x","output":"é\n"})";
  ASSERT_OK_AND_ASSIGN(const auto lines, ParseRecords(one + "\n" + two));
  ASSERT_OK_AND_ASSIGN(const auto list,
                       ParseRecords("\n [" + one + ",\n" + two + "]\n"));
  ASSERT_EQ(lines.size(), list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(ContentSha256(list[i]), ContentSha256(lines[i]));
    EXPECT_EQ(list[i].index, lines[i].index);
  }
}

TEST(SourceImportTest, BadLineIsNamedByItsNumberInTheFile) {
  std::string content;
  for (int line = 1; line <= 20; ++line) {
    content += line == 17 ? "{\"instruction\": oops}\n"
                          : "{\"instruction\":\"a\",\"output\":\"b\"}\n";
  }
  const auto result = ParseRecords(content);
  EXPECT_THAT(result, StatusIs(kInvalid, AllOf(HasSubstr("\"a.jsonl\""),
                                               HasSubstr("line 17"),
                                               HasSubstr("not valid JSON"),
                                               Not(HasSubstr("line 1,")))));
  const ErrorDetail detail = GetErrorDetail(result.status());
  EXPECT_EQ(detail.reason, "INVALID_RECORD");
  EXPECT_EQ(detail.metadata.at("line"), "17");
  EXPECT_EQ(detail.metadata.at("file"), "a.jsonl");
}

TEST(SourceImportTest, MissingAndWrongFieldsAreNamed) {
  EXPECT_THAT(ParseRecords(R"({"instruction":"a"})"),
              StatusIs(kInvalid, AllOf(HasSubstr("line 1"),
                                       HasSubstr("\"output\" is missing"))));
  EXPECT_THAT(ParseRecords(R"([{"instruction":"a","output":"b"},
                       {"instruction":7,"output":"b"}])"),
              StatusIs(kInvalid, AllOf(HasSubstr("record 1"),
                                       HasSubstr("\"instruction\" is 7"))));
  EXPECT_THAT(ParseRecords("[1]"),
              StatusIs(kInvalid, HasSubstr("must be a JSON object")));
  EXPECT_THAT(ParseRecords("[[{}]]"),
              StatusIs(kInvalid, HasSubstr("record 0")));
  EXPECT_THAT(ParseRecords("\"text\""),
              StatusIs(kInvalid, HasSubstr("line 1")));
}

TEST(SourceImportTest, BrokenListSaysWhere) {
  EXPECT_THAT(
      ParseRecords("[{\"instruction\":\"a\",\"output\":\"b\"},\n{\"instr"),
      StatusIs(kInvalid, AllOf(HasSubstr("record 1"), HasSubstr("line 2"))));
  EXPECT_THAT(
      ParseRecords("[{\"instruction\":\"a\",\"output\":\"b\"}] trailing"),
      StatusIs(kInvalid, HasSubstr("not valid JSON")));
  // A half of a surrogate pair is no character.
  EXPECT_THAT(ParseRecords(R"([{"instruction":"\ud800","output":"b"}])"),
              StatusIs(kInvalid));
}

TEST(SourceImportTest, DeepNestingIsRefused) {
  const std::string deep(1000, '[');
  EXPECT_THAT(ParseRecords("[{\"x\":" + deep + std::string(1000, ']') + "}]"),
              StatusIs(kInvalid, HasSubstr("nesting")));
  EXPECT_THAT(ParseRecords("{\"x\":" + deep + std::string(1000, ']') + "}"),
              StatusIs(kInvalid, HasSubstr("nesting")));
}

TEST(SourceImportTest, FormatByExtension) {
  for (const char* file :
       {"a.txt", "a.TEXT", "dir.d/a.md", "dir.json/README"}) {
    ASSERT_OK_AND_ASSIGN(const auto format, FormatOfFile(file));
    EXPECT_EQ(format, SourceFormat::kPlainText) << file;
  }
  for (const char* file : {"a.json", "b/c.JSONL"}) {
    ASSERT_OK_AND_ASSIGN(const auto format, FormatOfFile(file));
    EXPECT_EQ(format, SourceFormat::kInstruction) << file;
  }
  EXPECT_THAT(FormatOfFile("a.pdf"),
              StatusIs(kInvalid, AllOf(HasSubstr("a.pdf"), HasSubstr(".pdf"))));
}

TEST(SourceImportTest, SinkErrorEndsTheParse) {
  int calls = 0;
  const absl::Status status = ParseSourceFile(
      "a.json", SourceFormat::kInstruction,
      R"([{"instruction":"a","output":"b"},{"instruction":"c","output":"d"}])",
      [&](Record) {
        ++calls;
        return absl::CancelledError("stop");
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(calls, 1);
}

TEST(RecordTest, LineRoundTrip) {
  Record record;
  record.format = SourceFormat::kInstruction;
  record.file = "dir/ü.json";
  record.index = 12;
  record.instruction = "line\n\"quoted\" \\ \t";
  record.output = std::string("nul\0byte", 8);
  const std::string line = RecordToLine(record);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  ASSERT_OK_AND_ASSIGN(const Record back, RecordFromLine(line));
  EXPECT_EQ(back.file, record.file);
  EXPECT_EQ(back.index, 12);
  EXPECT_EQ(ContentSha256(back), ContentSha256(record));
  EXPECT_THAT(RecordFromLine("{\"file\":1}"),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(RecordTest, ContentHashSeparatesFields) {
  Record a, b;
  a.format = b.format = SourceFormat::kInstruction;
  a.instruction = "ab";
  b.instruction = "a";
  b.input = "b";
  EXPECT_NE(ContentSha256(a), ContentSha256(b));
}

}  // namespace
}  // namespace sinklora::curator
