// The house rules that no compiler checks: which folder may include which,
// where gRPC headers may appear, that every source says under what licence it
// is and that no text was left unfinished.
//
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Source {
  std::string path;  // relative to the repository root
  std::string text;
  std::vector<std::string> includes;  // of our own files: "a/b/c.h"
};

std::string Root() {
  const char* root = std::getenv("SINKLORA_SOURCE_DIR");
  return root == nullptr ? "" : root;
}

std::vector<Source> ReadSources() {
  static const std::regex quoted("^#include \"([^\"]+)\"");
  std::vector<Source> out;
  for (const char* top : {"kernels", "common", "services", "tests", "deploy"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(Root()) / top)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc" && extension != ".cu") {
        continue;
      }
      Source source;
      source.path = fs::relative(entry.path(), Root());
      std::ifstream in(entry.path());
      std::string line;
      while (std::getline(in, line)) {
        source.text += line + "\n";
        std::smatch match;
        if (std::regex_search(line, match, quoted)) {
          source.includes.push_back(match[1]);
        }
      }
      out.push_back(std::move(source));
    }
  }
  return out;
}

std::string Top(const std::string& path) {
  return path.substr(0, path.find('/'));
}

// services/trainer/x.h -> trainer
std::string ServiceOf(const std::string& path) {
  const size_t begin = path.find('/') + 1;
  return path.substr(begin, path.find('/', begin) - begin);
}

class LayoutTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(Root().empty()) << "SINKLORA_SOURCE_DIR is not set";
    sources_ = ReadSources();
    ASSERT_GT(sources_.size(), 100u) << "too few sources found in " << Root();
  }
  std::vector<Source> sources_;
};

TEST_F(LayoutTest, DependenciesPointDown) {
  // Folder -> folders it may include, besides third-party code.
  const std::map<std::string, std::set<std::string>> allowed = {
      {"kernels", {"kernels"}},
      {"common", {"common", "kernels", "sinklora", "google"}},
      {"services", {"services", "common", "kernels", "sinklora"}},
      {"deploy", {"deploy", "common", "kernels"}},
  };
  const std::set<std::string> ours = {
      "kernels", "common", "services", "deploy", "tests", "sinklora", "google"};
  for (const Source& source : sources_) {
    const auto rule = allowed.find(Top(source.path));
    if (rule == allowed.end()) continue;
    for (const std::string& include : source.includes) {
      if (ours.count(Top(include)) == 0) continue;
      EXPECT_EQ(rule->second.count(Top(include)), 1u)
          << source.path << " includes " << include;
    }
  }
}

TEST_F(LayoutTest, CommonKnowsNoServiceProto) {
  for (const Source& source : sources_) {
    if (Top(source.path) != "common") continue;
    for (const std::string& include : source.includes) {
      if (Top(include) != "sinklora") continue;
      EXPECT_EQ(include.rfind("sinklora/common/", 0), 0u)
          << source.path << " includes " << include;
    }
  }
}

TEST_F(LayoutTest, ServicesMeetInProtosOnly) {
  for (const Source& source : sources_) {
    if (Top(source.path) != "services") continue;
    const std::string service = ServiceOf(source.path);
    // The one-process form is assembled from the others, and `sinklora up`
    // starts it.
    if (service == "standalone") continue;
    for (const std::string& include : source.includes) {
      if (Top(include) != "services") continue;
      const std::string other = ServiceOf(include);
      const bool cli_up = service == "cli" && other == "standalone";
      EXPECT_TRUE(other == service || cli_up)
          << source.path << " includes " << include;
    }
  }
}

TEST_F(LayoutTest, ProductIncludesNoTestCode) {
  for (const Source& source : sources_) {
    if (Top(source.path) == "tests") continue;
    for (const std::string& include : source.includes) {
      EXPECT_NE(Top(include), "tests")
          << source.path << " includes " << include;
    }
  }
}

TEST_F(LayoutTest, KernelsNeedNoLibraryAboveThem) {
  for (const Source& source : sources_) {
    if (Top(source.path) != "kernels") continue;
    for (const char* banned :
         {"\"absl/", "<grpc", "<rocksdb", "<prometheus", "google/protobuf"}) {
      EXPECT_EQ(source.text.find(std::string("#include ") + banned),
                std::string::npos)
          << source.path << " includes " << banned;
    }
  }
}

TEST_F(LayoutTest, EverySourceNamesItsLicence) {
  for (const Source& source : sources_) {
    EXPECT_NE(source.text.find("SPDX-License-Identifier: Apache-2.0"),
              std::string::npos)
        << source.path;
  }
}

TEST_F(LayoutTest, NoFileIsAGiant) {
  for (const Source& source : sources_) {
    int lines = 0;
    for (char c : source.text) lines += c == '\n';
    EXPECT_LE(lines, 600) << source.path;
  }
}

TEST_F(LayoutTest, HeadersAreGuardedByTheirPath) {
  for (const Source& source : sources_) {
    if (source.path.substr(source.path.size() - 2) != ".h") continue;
    if (source.path.find("-inl.h") != std::string::npos) continue;
    std::string guard = "SINKLORA_";
    for (char c : source.path) {
      guard += std::isalnum(static_cast<unsigned char>(c))
                   ? static_cast<char>(std::toupper(c))
                   : '_';
    }
    guard += '_';
    EXPECT_NE(source.text.find("#ifndef " + guard), std::string::npos)
        << source.path << " should use the guard " << guard;
  }
}

// The first NAME between two pairs of at signs in `text`; empty when there is
// none.
std::string FirstPlaceholder(const std::string& text) {
  if (text.find("@@") == std::string::npos) return "";
  static const std::regex placeholder("@@[A-Z][A-Z0-9_]*@@");
  std::smatch match;
  return std::regex_search(text, match, placeholder) ? match.str() : "";
}

// Every file that git tracks, relative to the root.
std::vector<std::string> TrackedFiles() {
  // The tests may run as another user than the one who cloned.
  const std::string command =
      "git -c safe.directory='*' -C '" + Root() + "' ls-files -z";
  std::vector<std::string> files;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return files;
  std::string file;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    if (c != '\0') {
      file += static_cast<char>(c);
      continue;
    }
    files.push_back(file);
    file.clear();
  }
  if (pclose(pipe) != 0) files.clear();
  return files;
}

TEST_F(LayoutTest, NoTextHasAnUnfilledPlaceholder) {
  // In two halves, or this file had one.
  ASSERT_EQ(FirstPlaceholder("see @@"
                             "TABLE_2@@ below"),
            "@@"
            "TABLE_2@@");
  ASSERT_EQ(FirstPlaceholder("@@ -1,2 +3,4 @@ void F() @@ x@@y.z"), "");
  if (!fs::exists(fs::path(Root()) / ".git")) {
    GTEST_SKIP() << Root() << " is not a clone: what is tracked is not known";
  }
  const std::vector<std::string> files = TrackedFiles();
  ASSERT_GT(files.size(), sources_.size()) << "git ls-files does not work";
  for (const std::string& file : files) {
    std::ifstream in(fs::path(Root()) / file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.find('\0') != std::string::npos) continue;  // not text
    std::istringstream lines(text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      EXPECT_EQ(FirstPlaceholder(line), "") << file << ":" << number;
    }
  }
}

}  // namespace
