// Debian's Prometheus scrapes every process, and its linter finds nothing to
// say about what it scrapes.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

constexpr char kPrometheus[] = "/usr/bin/prometheus";
constexpr char kPromtool[] = "/usr/bin/promtool";

class PrometheusTest : public ClusterTest {
 protected:
  void SetUp() override {
    if (!FileExists(kPrometheus) || !FileExists(kPromtool)) {
      GTEST_SKIP() << kPrometheus << " or " << kPromtool
                   << " is not there: install the package prometheus";
    }
    ASSERT_NO_FATAL_FAILURE(StartWithData());
    // Every kind of work once, so that the metrics of all of it are there.
    ASSERT_OK_AND_ASSIGN(const std::string job,
                         Submit("tuned", 4, 2, {"--validate-every", "2"}));
    ASSERT_THAT(WaitForSuccess(job), IsOk());
    ASSERT_THAT(
        cluster_->CliJson({"generate", "--model", "tiny", "--adapter", "tuned",
                           "--prompt", "In the house of the king",
                           "--ignore-eos", "--cache", "h2o",
                           "--cache-budget-tokens", "6", "--max-tokens", "8"}),
        IsOk());
    ASSERT_THAT(
        cluster_->CliJson({"score", "--model", "tiny", "--text", "the king"}),
        IsOk());
  }
};

TEST_F(PrometheusTest, LintsClean) {
  for (const Part part : kAllParts) {
    ASSERT_OK_AND_ASSIGN(const std::string metrics, Metrics(part));
    EXPECT_THAT(metrics, ::testing::HasSubstr("sinklora_")) << PartName(part);
    ASSERT_OK_AND_ASSIGN(
        const auto lint,
        RunCommand({kPromtool, "check", "metrics"}, kPatienceSeconds,
                   {.stdin_text = metrics, .environment = {}}));
    EXPECT_EQ(lint.exit_code, 0) << PartName(part);
    EXPECT_EQ(lint.out + lint.err, "") << PartName(part);
  }
}

TEST_F(PrometheusTest, ScrapesEveryProcess) {
  std::string config =
      "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n";
  for (const Part part : kAllParts) {
    config += fmt::format(
        "  - job_name: {}\n    static_configs:\n      - targets: ['{}']\n",
        PartName(part), cluster_->metrics_address(part));
  }
  ASSERT_THAT(WriteFileAtomic(Scratch("prometheus.yml"), config), IsOk());
  ASSERT_OK_AND_ASSIGN(const int port, FreePort());
  const std::string address = fmt::format("127.0.0.1:{}", port);
  ASSERT_OK_AND_ASSIGN(
      const auto prometheus,
      Process::Start({kPrometheus, "--config.file=" + Scratch("prometheus.yml"),
                      "--storage.tsdb.path=" + Scratch("tsdb"),
                      "--web.listen-address=" + address}));
  // Names of the jobs for which a query has a value.
  const auto jobs = [&](const std::string& query) {
    std::set<std::string> names;
    const auto body = HttpBody(address, "/api/v1/query?query=" + query);
    if (!body.ok()) return names;
    const auto json = nlohmann::json::parse(*body, nullptr, false);
    if (json.is_discarded()) return names;
    for (const auto& result : json["data"]["result"]) {
      names.insert(result["metric"]["job"]);
    }
    return names;
  };
  EXPECT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return jobs("up%20==%201").size() == 4;
  })) << prometheus->err();
  // count by (job) ({__name__=~"sinklora_.+"})
  EXPECT_TRUE(WaitUntil(kPatienceSeconds, [&] {
    return jobs("count%20by%20(job)%20(%7B__name__=~%22sinklora_.%2B%22%7D)")
               .size() == 4;
  })) << prometheus->err();
}

}  // namespace
}  // namespace sinklora::testing
