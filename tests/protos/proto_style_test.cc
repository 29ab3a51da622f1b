// The public contract keeps the rules of buf's STANDARD category, and every
// element of it is documented.
//
// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorSet;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;
using google::protobuf::SourceLocation;
using MessageDescriptor = google::protobuf::Descriptor;

bool IsOurs(const std::string& file) { return file.rfind("sinklora/", 0) == 0; }

bool Matches(const std::string& text, const char* pattern) {
  return std::regex_match(text, std::regex(pattern));
}

// AttentionPattern -> ATTENTION_PATTERN_
std::string EnumPrefix(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    if (i > 0 && std::isupper(name[i]) && !std::isupper(name[i - 1]))
      out += '_';
    out += static_cast<char>(std::toupper(name[i]));
  }
  return out + "_";
}

template <typename T>
bool IsCommented(const T* element) {
  SourceLocation location;
  return element->GetSourceLocation(&location) &&
         location.leading_comments.find_first_not_of(" \n") !=
             std::string::npos;
}

class ProtoStyleTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream in(SINKLORA_DESCRIPTORS, std::ios::binary);
    ASSERT_TRUE(in) << SINKLORA_DESCRIPTORS;
    FileDescriptorSet set;
    ASSERT_TRUE(set.ParseFromIstream(&in));
    for (const auto& file : set.file()) {
      const FileDescriptor* built = pool_.BuildFile(file);
      ASSERT_NE(built, nullptr) << file.name();
      if (IsOurs(file.name())) files_.push_back(built);
    }
    // The contract has at least these five files; an empty list would make
    // every check below vacuous.
    ASSERT_GE(files_.size(), 5u);
  }

  void ForEachMessage(
      const std::function<void(const MessageDescriptor*)>& visit) {
    const std::function<void(const MessageDescriptor*)> walk =
        [&](const MessageDescriptor* message) {
          if (message->options().map_entry()) return;
          visit(message);
          for (int i = 0; i < message->nested_type_count(); ++i) {
            walk(message->nested_type(i));
          }
        };
    for (const FileDescriptor* file : files_) {
      for (int i = 0; i < file->message_type_count(); ++i) {
        walk(file->message_type(i));
      }
    }
  }

  void ForEachEnum(const std::function<void(const EnumDescriptor*)>& visit) {
    for (const FileDescriptor* file : files_) {
      for (int i = 0; i < file->enum_type_count(); ++i) {
        visit(file->enum_type(i));
      }
    }
    ForEachMessage([&](const MessageDescriptor* message) {
      for (int i = 0; i < message->enum_type_count(); ++i) {
        visit(message->enum_type(i));
      }
    });
  }

  void ForEachService(
      const std::function<void(const ServiceDescriptor*)>& visit) {
    for (const FileDescriptor* file : files_) {
      for (int i = 0; i < file->service_count(); ++i) visit(file->service(i));
    }
  }

  DescriptorPool pool_;
  std::vector<const FileDescriptor*> files_;
};

TEST_F(ProtoStyleTest, PackageIsVersionedAndEqualsItsFolder) {
  for (const FileDescriptor* file : files_) {
    std::string folder = file->name().substr(0, file->name().rfind('/'));
    for (char& c : folder) c = c == '/' ? '.' : c;
    EXPECT_EQ(file->package(), folder) << file->name();
    EXPECT_TRUE(Matches(file->package(), R"([a-z0-9_.]+\.v[0-9]+)"))
        << file->package();
    EXPECT_TRUE(Matches(file->name().substr(file->name().rfind('/') + 1),
                        R"([a-z0-9_]+\.proto)"))
        << file->name();
    EXPECT_EQ(file->syntax(), FileDescriptor::SYNTAX_PROTO3);
  }
}

TEST_F(ProtoStyleTest, ImportsAreUsedAndPlain) {
  for (const FileDescriptor* file : files_) {
    EXPECT_EQ(file->public_dependency_count(), 0) << file->name();
    EXPECT_EQ(file->weak_dependency_count(), 0) << file->name();
  }
}

TEST_F(ProtoStyleTest, MessagesAndFieldsAreNamedAndDocumented) {
  int fields = 0;
  ForEachMessage([&](const MessageDescriptor* message) {
    EXPECT_TRUE(Matches(message->name(), "[A-Z][A-Za-z0-9]*"))
        << message->full_name();
    EXPECT_TRUE(IsCommented(message)) << message->full_name();
    for (int i = 0; i < message->field_count(); ++i) {
      const FieldDescriptor* field = message->field(i);
      ++fields;
      EXPECT_TRUE(Matches(field->name(), "[a-z][a-z0-9]*(_[a-z0-9]+)*"))
          << field->full_name();
      EXPECT_TRUE(IsCommented(field)) << field->full_name();
    }
    for (int i = 0; i < message->real_oneof_decl_count(); ++i) {
      EXPECT_TRUE(IsCommented(message->oneof_decl(i)))
          << message->oneof_decl(i)->full_name();
    }
  });
  EXPECT_GT(fields, 100);
}

TEST_F(ProtoStyleTest, EnumsArePrefixedAndStartUnspecified) {
  ForEachEnum([&](const EnumDescriptor* type) {
    EXPECT_TRUE(Matches(type->name(), "[A-Z][A-Za-z0-9]*"))
        << type->full_name();
    EXPECT_TRUE(IsCommented(type)) << type->full_name();
    EXPECT_FALSE(type->options().allow_alias()) << type->full_name();
    const std::string prefix = EnumPrefix(type->name());
    EXPECT_EQ(type->value(0)->number(), 0) << type->full_name();
    EXPECT_EQ(type->value(0)->name(), prefix + "UNSPECIFIED");
    for (int i = 0; i < type->value_count(); ++i) {
      const auto* value = type->value(i);
      EXPECT_EQ(value->name().rfind(prefix, 0), 0u) << value->full_name();
      EXPECT_TRUE(Matches(value->name(), "[A-Z][A-Z0-9]*(_[A-Z0-9]+)*"))
          << value->full_name();
      EXPECT_TRUE(IsCommented(value)) << value->full_name();
    }
  });
}

TEST_F(ProtoStyleTest, RpcsHaveTheirOwnRequestAndResponse) {
  std::map<std::string, std::string> user;
  ForEachService([&](const ServiceDescriptor* service) {
    EXPECT_TRUE(Matches(service->name(), "[A-Z][A-Za-z0-9]*Service"))
        << service->full_name();
    EXPECT_TRUE(IsCommented(service)) << service->full_name();
    for (int i = 0; i < service->method_count(); ++i) {
      const MethodDescriptor* method = service->method(i);
      EXPECT_TRUE(Matches(method->name(), "[A-Z][A-Za-z0-9]*"))
          << method->full_name();
      EXPECT_TRUE(IsCommented(method)) << method->full_name();
      EXPECT_EQ(method->input_type()->name(), method->name() + "Request")
          << method->full_name();
      EXPECT_EQ(method->output_type()->name(), method->name() + "Response")
          << method->full_name();
      for (const auto* type : {method->input_type(), method->output_type()}) {
        const auto [it, fresh] =
            user.emplace(type->full_name(), method->full_name());
        EXPECT_TRUE(fresh) << type->full_name() << " is used by " << it->second
                           << " and " << method->full_name();
      }
    }
  });
  EXPECT_GT(user.size(), 40u);
}

// What only answers hold, nobody can set; its fields say so. The answers
// themselves go without saying.
TEST_F(ProtoStyleTest, WhatNoRequestHoldsIsOutputOnly) {
  std::set<const MessageDescriptor*> in_requests;
  std::set<const MessageDescriptor*> in_responses;
  const std::function<void(const MessageDescriptor*,
                           std::set<const MessageDescriptor*>*)>
      collect = [&](const MessageDescriptor* message,
                    std::set<const MessageDescriptor*>* seen) {
        if (!IsOurs(message->file()->name())) return;
        if (!seen->insert(message).second) return;
        for (int i = 0; i < message->field_count(); ++i) {
          const MessageDescriptor* type = message->field(i)->message_type();
          if (type != nullptr) collect(type, seen);
        }
      };
  std::set<const MessageDescriptor*> responses;
  ForEachService([&](const ServiceDescriptor* service) {
    for (int i = 0; i < service->method_count(); ++i) {
      collect(service->method(i)->input_type(), &in_requests);
      collect(service->method(i)->output_type(), &in_responses);
      responses.insert(service->method(i)->output_type());
    }
  });
  int fields = 0;
  for (const MessageDescriptor* message : in_responses) {
    if (in_requests.count(message) > 0 || responses.count(message) > 0) {
      continue;
    }
    if (message->options().map_entry()) continue;
    for (int i = 0; i < message->field_count(); ++i) {
      SourceLocation location;
      ASSERT_TRUE(message->field(i)->GetSourceLocation(&location));
      EXPECT_EQ(location.leading_comments.rfind(" Output only.", 0), 0u)
          << message->field(i)->full_name() << ":" << location.leading_comments;
      ++fields;
    }
  }
  EXPECT_GT(fields, 80);
}

TEST_F(ProtoStyleTest, MutatingRpcsCarryARequestId) {
  const std::set<std::string> mutating = {
      "ImportModel",       "ImportModelFromPath",   "DeleteModel",
      "ImportAdapter",     "ImportAdapterFromPath", "DeleteAdapter",
      "MergeAdapter",      "ImportSource",          "Curate",
      "CreateTrainingJob", "CancelTrainingJob",     "DeleteTrainingJob"};
  std::set<std::string> seen;
  ForEachService([&](const ServiceDescriptor* service) {
    for (int i = 0; i < service->method_count(); ++i) {
      const MethodDescriptor* method = service->method(i);
      if (mutating.count(method->name()) == 0) continue;
      const MessageDescriptor* request = method->input_type();
      const FieldDescriptor* header = request->FindFieldByName("header");
      if (header != nullptr) request = header->message_type();
      EXPECT_NE(request->FindFieldByName("request_id"), nullptr)
          << method->full_name();
      seen.insert(method->name());
    }
  });
  EXPECT_EQ(seen, mutating);
}

}  // namespace
