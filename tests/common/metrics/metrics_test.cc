// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <thread>

#include "common/base/files.h"
#include "common/base/posix.h"
#include "tests/testing/http_get.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::HttpGet;
using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, SerializesAllKinds) {
  auto registry = MetricsRegistry::Create();
  registry->GetCounter("sinklora_jobs_total", "Jobs.", {{"state", "done"}})
      ->Increment(3);
  registry->GetGauge("sinklora_loss_nats", "Loss.")->Set(1.5);
  Histogram* const histogram =
      registry->GetHistogram("sinklora_step_seconds", "Step time.", {0.5, 2});
  histogram->Observe(1);
  histogram->Observe(100);
  EXPECT_THAT(
      registry->Serialize(),
      AllOf(HasSubstr("# HELP sinklora_jobs_total Jobs.\n"),
            HasSubstr("# TYPE sinklora_jobs_total counter\n"),
            HasSubstr("sinklora_jobs_total{state=\"done\"} 3\n"),
            HasSubstr("sinklora_loss_nats 1.5\n"),
            HasSubstr("sinklora_step_seconds_count 2\n"),
            HasSubstr("sinklora_step_seconds_sum 101\n"),
            HasSubstr("sinklora_step_seconds_bucket{le=\"0.5\"} 0\n"),
            HasSubstr("sinklora_step_seconds_bucket{le=\"2\"} 1\n"),
            HasSubstr("sinklora_step_seconds_bucket{le=\"+Inf\"} 2\n")));
}

TEST(MetricsTest, SameNameAndLabelsIsTheSameMetric) {
  auto registry = MetricsRegistry::Create();
  Counter* const first =
      registry->GetCounter("sinklora_a_total", "A.", {{"x", "1"}});
  EXPECT_EQ(first,
            registry->GetCounter("sinklora_a_total", "A.", {{"x", "1"}}));
  Counter* const other =
      registry->GetCounter("sinklora_a_total", "A.", {{"x", "2"}});
  EXPECT_NE(first, other);
  first->Increment();
  EXPECT_EQ(first->Value(), 1);
  EXPECT_EQ(other->Value(), 0);
}

TEST(MetricsTest, GaugeAndItsRemoval) {
  auto registry = MetricsRegistry::Create();
  const Labels labels = {{"job", "j1"}};
  Gauge* const gauge = registry->GetGauge("sinklora_step", "Step.", labels);
  gauge->Set(5);
  gauge->Add(-2);
  EXPECT_EQ(gauge->Value(), 3);
  registry->GetGauge("sinklora_step", "Step.", {{"job", "j2"}})->Set(7);
  registry->RemoveGauge("sinklora_step", labels);
  registry->RemoveGauge("sinklora_step", labels);
  registry->RemoveGauge("sinklora_absent", labels);
  EXPECT_THAT(registry->Serialize(),
              AllOf(Not(HasSubstr("j1")), HasSubstr("{job=\"j2\"} 7\n")));
  registry->GetGauge("sinklora_step", "Step.", labels)->Set(1);
  EXPECT_THAT(registry->Serialize(), HasSubstr("{job=\"j1\"} 1\n"));
}

TEST(MetricsTest, WrongUseIsNotExportedAndHarmless) {
  auto registry = MetricsRegistry::Create();
  registry->GetCounter("sinklora_a_total", "A.")->Increment();
  const std::string before = registry->Serialize();
  registry->GetGauge("sinklora_a_total", "A.")->Set(1);
  registry->GetCounter("sinklora_a_total", "B.", {{"x", "1"}})->Increment();
  registry->GetCounter("not a name", "A.")->Increment();
  registry->GetGauge("sinklora_g", "G.", {{"bad-label", "x"}})->Set(1);
  registry->GetHistogram("sinklora_h", "H.", {2, 1})->Observe(1);
  registry->RemoveGauge("sinklora_g", {{"bad-label", "x"}});
  EXPECT_EQ(registry->Serialize().find(before), 0u);
  EXPECT_THAT(registry->Serialize(),
              AllOf(Not(HasSubstr("not a name")), Not(HasSubstr("bad-label"))));
}

TEST(MetricsTest, CountsFromManyThreads) {
  auto registry = MetricsRegistry::Create();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&registry] {
      for (int i = 0; i < 1000; ++i) {
        registry->GetCounter("sinklora_n_total", "N.")->Increment();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry->GetCounter("sinklora_n_total", "N.")->Value(), 4000);
}

TEST(MetricsTest, BucketsGrow) {
  for (const auto* buckets :
       {&LatencyBuckets(), &TtftBuckets(), &InterTokenBuckets()}) {
    for (size_t i = 1; i < buckets->size(); ++i) {
      EXPECT_LT((*buckets)[i - 1], (*buckets)[i]);
    }
  }
}

TEST(MetricsTest, PromtoolHasNoComplaint) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed (Debian package prometheus)";
  }
  auto registry = MetricsRegistry::Create();
  registry->GetCounter("sinklora_jobs_total", "Jobs.", {{"state", "done"}});
  registry->GetGauge("sinklora_loss_nats", "Loss.")->Set(1.5);
  registry->GetHistogram("sinklora_step_seconds", "Step time.",
                         LatencyBuckets());
  ASSERT_OK_AND_ASSIGN(const auto temp, TempDir::Create());
  const std::string input = JoinPath(temp->path(), "metrics");
  const std::string output = JoinPath(temp->path(), "complaints");
  ASSERT_OK(WriteFileAtomic(input, registry->Serialize()));
  const std::string command =
      "promtool check metrics < " + input + " > " + output + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(ReadFile(output).value(), "");
}

TEST(ExposerTest, ServesTheRegistry) {
  auto registry = MetricsRegistry::Create();
  Counter* const counter = registry->GetCounter("sinklora_a_total", "A.");
  ASSERT_OK_AND_ASSIGN(auto exposer,
                       MetricsExposer::Create("127.0.0.1:0", registry.get()));
  ASSERT_GT(exposer->port(), 0);
  counter->Increment(2);
  ASSERT_OK_AND_ASSIGN(const std::string response,
                       HttpGet(exposer->port(), "/metrics"));
  EXPECT_THAT(response, AllOf(HasSubstr("HTTP/1.1 200"),
                              HasSubstr("Content-Type: text/plain"),
                              HasSubstr("\nsinklora_a_total 2\n")));
  ASSERT_OK_AND_ASSIGN(const std::string other,
                       HttpGet(exposer->port(), "/etc/passwd"));
  EXPECT_THAT(other, HasSubstr("404"));
}

TEST(ExposerTest, TakenPortIsUnavailable) {
  auto registry = MetricsRegistry::Create();
  ASSERT_OK_AND_ASSIGN(auto first,
                       MetricsExposer::Create("127.0.0.1:0", registry.get()));
  const std::string address = "127.0.0.1:" + std::to_string(first->port());
  EXPECT_THAT(MetricsExposer::Create(address, registry.get()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
  EXPECT_THAT(MetricsExposer::Create("nonsense", registry.get()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nonsense")));
}

// With the library's default of two threads and no time limit, this scrape
// would wait until the idle connections close, which is never.
TEST(ExposerTest, IdleConnectionsDoNotStarveScrapes) {
  auto registry = MetricsRegistry::Create();
  ASSERT_OK_AND_ASSIGN(auto exposer,
                       MetricsExposer::Create("127.0.0.1:0", registry.get()));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(exposer->port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::vector<std::unique_ptr<posix::ScopedFd>> idle;
  for (int i = 0; i < 8; ++i) {
    idle.push_back(std::make_unique<posix::ScopedFd>(
        socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    ASSERT_EQ(
        connect(idle.back()->get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)),
        0);
  }
  ASSERT_OK_AND_ASSIGN(const std::string response,
                       HttpGet(exposer->port(), "/metrics"));
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 200"));
}

TEST(ExposerTest, StopsOnDestruction) {
  auto registry = MetricsRegistry::Create();
  ASSERT_OK_AND_ASSIGN(auto exposer,
                       MetricsExposer::Create("127.0.0.1:0", registry.get()));
  const int port = exposer->port();
  exposer.reset();
  EXPECT_THAT(HttpGet(port, "/metrics"),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace sinklora
