// SPDX-License-Identifier: Apache-2.0
//
// What is no use of a map: every element command, batch and freeze on every kind of map, with keys and values that
// are, are NULL or lead nowhere, and with every flag; on descriptors of each mode, before and after freeze, on an empty
// map and on one with an element. The kernel and skep must answer alike to the errno and to the byte.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "guarded_arena.h"
#include "kind_forms.h"
#include "memory/test_directory.h"
#include "operation.h"
#include "side.h"

namespace skep::oracle {
namespace {

template <class T>
void put(std::vector<uint8_t>& attr, size_t offset, T value) {
  std::memcpy(attr.data() + offset, &value, sizeof value);
}

enum class Pointer { kGood, kNull, kForbidden, kReadOnly };
constexpr Pointer kPointers[] = {Pointer::kGood, Pointer::kNull, Pointer::kForbidden, Pointer::kReadOnly};

Buffer buffer_of(unsigned attr_offset, Pointer pointer, std::vector<uint8_t> content) {
  Buffer buffer{.attr_offset = attr_offset, .content = std::move(content)};
  buffer.raw = pointer != Pointer::kGood;
  if (pointer == Pointer::kForbidden) buffer.raw_kind = Buffer::Raw::kForbidden;
  if (pointer == Pointer::kReadOnly) buffer.raw_kind = Buffer::Raw::kReadOnly;
  return buffer;
}

constexpr int kElementCommands[] = {BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                                    BPF_MAP_LOOKUP_AND_DELETE_ELEM};
constexpr int kBatchCommands[] = {BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH, BPF_MAP_UPDATE_BATCH,
                                  BPF_MAP_DELETE_BATCH};
constexpr uint32_t kBiggestValue = 4096;  // more than any value here has, on any number of CPUs that is likely

class MisuseOracleTest : public testing::Test {
 protected:
  // One instance for all tests: a process keeps the one that it opened first.
  static void SetUpTestSuite() {
    directory_ = new TestDirectory;
    setenv("SKEP_DIR", directory_->path().c_str(), 1);
  }
  static void TearDownTestSuite() { delete directory_; }
  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
  }
  void TearDown() override {
    close_maps();
    printf("%llu answers compared\n", static_cast<unsigned long long>(compared_));
  }

  void close_maps() {
    for (Side* side : sides_) {
      for (const int fd : side->maps) close(fd);
      side->maps.clear();
    }
  }
  /// Map 0: of that form; map 1: what maps of maps have in them.
  bool create(const KindForm& form, uint32_t mode) {
    close_maps();
    name_ = form.name + (mode == BPF_F_RDONLY   ? std::string(", read only")
                         : mode == BPF_F_WRONLY ? ", write only"
                                                : "");
    for (Side* side : sides_) {
      bpf_attr attr{};
      attr.map_type = BPF_MAP_TYPE_ARRAY;
      attr.key_size = 4;
      attr.value_size = 8;
      attr.max_entries = 2;
      const int inner = side->bpf(BPF_MAP_CREATE, &attr, 72);
      EXPECT_GE(inner, 0);
      attr = {};
      attr.map_type = form.type;
      attr.key_size = form.key_size;
      attr.value_size = form.value_size;
      attr.max_entries = form.max_entries;
      attr.map_flags = form.flags | mode;
      if (form.of_maps) attr.inner_map_fd = static_cast<uint32_t>(inner);
      const int map = side->bpf(BPF_MAP_CREATE, &attr, 72);
      EXPECT_TRUE(map >= 0 || mode != 0) << form.name << ": " << side->name;
      side->maps = {map, inner};
    }
    // No kind takes modes of one side alone.
    EXPECT_EQ(kernel_.maps[0] < 0, skep_.maps[0] < 0) << name_;
    return kernel_.maps[0] >= 0 && skep_.maps[0] >= 0;
  }

  void agree(const Operation& operation, const std::string& what) {
    const Outcome kernel = execute(operation, kernel_, arena_);
    const Outcome skep = execute(operation, skep_, arena_);
    ++compared_;
    const std::string differs = difference(operation, kernel, skep);
    EXPECT_EQ(differs, "") << name_ << ": " << what << "\n    " << operation.describe();
  }

  Operation operation_of(int command, unsigned size, unsigned fd_offset) {
    Operation operation;
    operation.command = command;
    operation.size = size;
    operation.attr.assign(size, 0);
    operation.descriptors.push_back({fd_offset, DescriptorField::Kind::kMap, 0});
    return operation;
  }

  static std::vector<uint8_t> key_for(const KindForm& form) {
    std::vector<uint8_t> key(form.key_size);
    if (form.type == BPF_MAP_TYPE_LPM_TRIE) key[0] = 8;  // a prefix that can be
    return key;
  }
  /// With 0xff the kinds of objects refuse it, as no descriptor, device or CPU has the number.
  static std::vector<uint8_t> value_for(uint8_t byte) { return std::vector<uint8_t>(kBiggestValue, byte); }

  void element_commands(const KindForm& form, const std::string& when) {
    for (const int command : kElementCommands) {
      for (const Pointer key : kPointers) {
        for (const Pointer value : kPointers) {
          for (const uint64_t flags : {0ULL, 1ULL, 2ULL, 3ULL, 4ULL, 5ULL, 6ULL, 7ULL, 32ULL, 1ULL << 31, ~0ULL}) {
            // Which of two reasons is told: docs/differences.md.
            if (form.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY && command == BPF_MAP_UPDATE_ELEM && flags == BPF_EXIST)
              continue;
            Operation operation = operation_of(command, 32, 0);
            operation.buffers.push_back(
                buffer_of(8, key, form.key_size != 0 ? key_for(form) : std::vector<uint8_t>(8, 1)));
            if (command != BPF_MAP_DELETE_ELEM || value != Pointer::kNull)
              operation.buffers.push_back(buffer_of(16, value, value_for(0xff)));
            put(operation.attr, 24, flags);
            agree(operation, when + "command " + std::to_string(command) + " key " +
                                 std::to_string(static_cast<int>(key)) + " value " +
                                 std::to_string(static_cast<int>(value)) + " flags " + std::to_string(flags));
          }
        }
      }
    }
  }

  void batches(const KindForm& form, const std::string& when) {
    for (const int command : kBatchCommands) {
      for (unsigned bad = 0; bad < 5; ++bad) {  // which pointer is not as it should be
        for (const Pointer pointer : kPointers) {
          for (const uint32_t count : {0U, 2U, 4U}) {
            for (const std::pair<uint64_t, uint64_t>& flags :
                 {std::pair<uint64_t, uint64_t>{0, 0}, {1, 0}, {2, 0}, {4, 0}, {32, 0}, {0, 1}, {0, 4}}) {
              const bool plain = count == 4 && flags == std::pair<uint64_t, uint64_t>{0, 0};
              if (bad == 4 ? pointer != Pointer::kGood : !plain) continue;
              // For maps of maps the kernel waits for all programs after each batch that may write.
              if (form.of_maps && count != 4) continue;
              // Which elements fit into a batch that is smaller than the map is a hash table's own affair.
              if (count == 2 && command != BPF_MAP_UPDATE_BATCH && command != BPF_MAP_DELETE_BATCH) continue;
              const auto pointer_of = [&](unsigned which) { return which == bad ? pointer : Pointer::kGood; };
              Operation operation = operation_of(command, 56, 36);
              std::vector<uint8_t> keys(size_t{4} * std::max(form.key_size, 4U), 0);
              for (size_t i = 0; i < 4 && form.key_size >= 4; ++i) keys[i * form.key_size] = static_cast<uint8_t>(i);
              operation.buffers.push_back(buffer_of(16, pointer_of(0), keys));
              operation.buffers.push_back(buffer_of(24, pointer_of(1), value_for(0xff)));
              operation.buffers.push_back(buffer_of(8, pointer_of(2), std::vector<uint8_t>(16, 0xee)));
              if (bad == 3) operation.buffers.push_back(buffer_of(0, pointer, std::vector<uint8_t>(16, 0)));
              put(operation.attr, 32, count);
              put(operation.attr, 40, flags.first);
              put(operation.attr, 48, flags.second);
              // The order of a hash table is its own.
              operation.compare = Operation::Compare::kResult;
              agree(operation, when + "batch " + std::to_string(command) + " pointer " + std::to_string(bad) + " is " +
                                   std::to_string(static_cast<int>(pointer)) + " count " + std::to_string(count) +
                                   " flags " + std::to_string(flags.first) + ", " + std::to_string(flags.second));
            }
          }
        }
      }
    }
  }

  void freeze(const std::string& when) { agree(operation_of(BPF_MAP_FREEZE, 4, 0), when + "freeze"); }

  /// What follows a command's own fields must be zero.
  void what_follows_the_fields() {
    struct Fields {
      int command;
      unsigned fd_offset, end;
    };
    for (const Fields fields : {Fields{BPF_MAP_LOOKUP_ELEM, 0, 32},
                                {BPF_MAP_UPDATE_ELEM, 0, 32},
                                {BPF_MAP_DELETE_ELEM, 0, 16},
                                {BPF_MAP_GET_NEXT_KEY, 0, 24},
                                {BPF_MAP_LOOKUP_AND_DELETE_ELEM, 0, 32},
                                {BPF_MAP_LOOKUP_BATCH, 36, 56},
                                {BPF_MAP_LOOKUP_AND_DELETE_BATCH, 36, 56},
                                {BPF_MAP_UPDATE_BATCH, 36, 56},
                                {BPF_MAP_DELETE_BATCH, 36, 56},
                                {BPF_MAP_FREEZE, 0, 4}}) {
      for (unsigned at = fields.end; at < 168; at += at < 64 ? 4 : 20) {
        Operation operation = operation_of(fields.command, 168, fields.fd_offset);
        operation.attr[at] = 1;
        agree(operation, "command " + std::to_string(fields.command) + " byte " + std::to_string(at));
      }
    }
  }

  static inline TestDirectory* directory_ = nullptr;
  Side kernel_{"kernel", kernel_bpf, {}, {}};
  Side skep_{"skep", skep_bpf, {}, {}};
  Side* sides_[2] = {&kernel_, &skep_};
  GuardedArena arena_;
  std::string name_;
  uint64_t compared_ = 0;
};

TEST_F(MisuseOracleTest, EveryKind) {
  for (const KindForm& form : kind_forms()) {
    if (form.needs_btf || !skep_has(form.type)) continue;
    for (const uint32_t mode : {0U, uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY}}) {
      if (!create(form, mode)) continue;
      what_follows_the_fields();
      element_commands(form, "");
      if (mode == 0 || !form.of_maps) batches(form, "");
      freeze("");
      freeze("second ");
      element_commands(form, "frozen: ");
      if (mode == 0 || !form.of_maps) batches(form, "frozen: ");
    }
  }
}

}  // namespace
}  // namespace skep::oracle
