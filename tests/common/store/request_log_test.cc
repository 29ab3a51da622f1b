// SPDX-License-Identifier: Apache-2.0
#include "common/store/request_log.h"

#include "common/base/files.h"
#include "common/base/status.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/faulty_store.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::HasSubstr;

class RequestLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    ASSERT_OK_AND_ASSIGN(store_, OpenRocksStore(temp_->path()));
  }
  std::unique_ptr<TempDir> temp_;
  void RecordOne(const std::string& id) {
    RequestLog log(store_.get(), &clock_);
    WriteBatch batch;
    log.Record("Create", id, "fp", "r", &batch);
    ASSERT_OK(store_->Write(batch));
  }
  // Rows of any kind.
  size_t Rows() { return store_->Scan("", "", 1000).value().size(); }

  testing::FakeClock clock_;
  std::unique_ptr<Store> store_;
};

TEST_F(RequestLogTest, AnswersARepeatedRequestFromTheRecord) {
  RequestLog log(store_.get(), &clock_);
  EXPECT_EQ(log.Find("Create", "id", "fp").value(), std::nullopt);
  const std::string response("line\n\0binary", 12);
  WriteBatch batch;
  batch.Put("effect", "done");
  log.Record("Create", "id", "fp", response, &batch);
  EXPECT_EQ(log.Find("Create", "id", "fp").value(), std::nullopt);
  ASSERT_OK(store_->Write(batch));
  EXPECT_EQ(log.Find("Create", "id", "fp").value(), response);
  // The same id of another method is another request.
  EXPECT_EQ(log.Find("Delete", "id", "fp").value(), std::nullopt);
}

TEST_F(RequestLogTest, EmptyResponseIsARecordToo) {
  RequestLog log(store_.get(), &clock_);
  WriteBatch batch;
  log.Record("Delete", "id", "fp", "", &batch);
  ASSERT_OK(store_->Write(batch));
  EXPECT_EQ(log.Find("Delete", "id", "fp").value(), "");
}

TEST_F(RequestLogTest, RefusesAnIdUsedForSomethingElse) {
  RequestLog log(store_.get(), &clock_);
  WriteBatch batch;
  log.Record("Create", "id", "fp", "r", &batch);
  ASSERT_OK(store_->Write(batch));
  for (const char* other : {"fp2", "f", ""}) {
    const auto found = log.Find("Create", "id", other);
    EXPECT_THAT(
        found, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'id'")));
    EXPECT_EQ(GetErrorDetail(found.status()).reason, "REQUEST_ID_REUSED");
  }
}

TEST_F(RequestLogTest, RefusesBadIds) {
  RequestLog log(store_.get(), &clock_);
  EXPECT_THAT(log.Find("Create", "", "fp"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(log.Find("Create", std::string(64, 'x'), "fp"));
  EXPECT_THAT(log.Find("Create", std::string(65, 'x'), "fp"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65")));
}

TEST_F(RequestLogTest, FailedWriteRecordsNeitherEffectNorResponse) {
  testing::FaultyStore faulty(store_.get());
  RequestLog log(&faulty, &clock_);
  WriteBatch batch;
  batch.Put("effect", "done");
  log.Record("Create", "id", "fp", "r", &batch);
  faulty.FailWrite(1);
  EXPECT_FALSE(faulty.Write(batch).ok());
  EXPECT_EQ(log.Find("Create", "id", "fp").value(), std::nullopt);
  EXPECT_THAT(faulty.Get("effect"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(faulty.Write(batch));
  EXPECT_EQ(log.Find("Create", "id", "fp").value(), "r");
}

TEST_F(RequestLogTest, RemembersForAWeekAndNotForEver) {
  constexpr double kDaySeconds = 24 * 3600;
  RequestLog log(store_.get(), &clock_);
  for (const char* id : {"a", "b", "c", "d", "e", "f"}) RecordOne(id);
  const size_t rows = Rows();
  clock_.AdvanceSeconds(kRequestRetentionDays * kDaySeconds);
  RecordOne("g");  // the others are a week old, not older
  EXPECT_EQ(log.Find("Create", "a", "fp").value(), "r");
  clock_.AdvanceSeconds(1);
  RecordOne("h");  // takes four
  EXPECT_EQ(log.Find("Create", "a", "fp").value(), std::nullopt);
  EXPECT_EQ(log.Find("Create", "e", "fp").value(), "r");
  RecordOne("i");  // takes the last two
  EXPECT_EQ(log.Find("Create", "f", "fp").value(), std::nullopt);
  EXPECT_EQ(log.Find("Create", "g", "fp").value(), "r");
  EXPECT_EQ(Rows(), rows / 2);  // g, h, i
  // However many there are, what is kept is a week's.
  for (int day = 0; day < 30; ++day) {
    clock_.AdvanceSeconds(kDaySeconds);
    RecordOne(std::to_string(day));
  }
  EXPECT_LE(Rows(), 2u * (kRequestRetentionDays + 2));
  // An id that was forgotten is a new one.
  RecordOne("a");
  EXPECT_EQ(log.Find("Create", "a", "fp").value(), "r");
}

}  // namespace
}  // namespace sinklora
