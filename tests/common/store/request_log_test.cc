// SPDX-License-Identifier: Apache-2.0
#include "common/store/request_log.h"

#include "common/base/files.h"
#include "common/base/status.h"
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
  std::unique_ptr<Store> store_;
};

TEST_F(RequestLogTest, AnswersARepeatedRequestFromTheRecord) {
  RequestLog log(store_.get());
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
  RequestLog log(store_.get());
  WriteBatch batch;
  log.Record("Delete", "id", "fp", "", &batch);
  ASSERT_OK(store_->Write(batch));
  EXPECT_EQ(log.Find("Delete", "id", "fp").value(), "");
}

TEST_F(RequestLogTest, RefusesAnIdUsedForSomethingElse) {
  RequestLog log(store_.get());
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
  RequestLog log(store_.get());
  EXPECT_THAT(log.Find("Create", "", "fp"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(log.Find("Create", std::string(64, 'x'), "fp"));
  EXPECT_THAT(log.Find("Create", std::string(65, 'x'), "fp"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65")));
}

TEST_F(RequestLogTest, FailedWriteRecordsNeitherEffectNorResponse) {
  testing::FaultyStore faulty(store_.get());
  RequestLog log(&faulty);
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

}  // namespace
}  // namespace sinklora
