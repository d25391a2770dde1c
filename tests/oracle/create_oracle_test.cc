// SPDX-License-Identifier: Apache-2.0
//
// The attributes of BPF_MAP_CREATE for every kind of map: each value of each field that a kernel tells apart, alone and
// two or three at once (which of the errors is told follows from the order of the checks), and what the map that came
// into being shows of itself. SKEP_ORACLE_OPS and SKEP_ORACLE_SEED as in oracle_test.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kind_forms.h"
#include "memory/test_directory.h"
#include "sample_btf.h"
#include "side.h"

namespace skep::oracle {
namespace {

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : otherwise;
}

/// A descriptor that each side has its own of.
enum class Own { kNone, kBtf, kInnerMap, kFile };

/// One field of the attributes that is not as the kind wants it.
struct Deviation {
  std::string name;
  unsigned offset;
  std::vector<uint8_t> bytes;
  Own own = Own::kNone;  // in the four bytes at `own_offset`
  unsigned own_offset = 0;
  bool added = false;  // the bits are set besides those that are there
};

template <class T>
std::vector<uint8_t> bytes_of(const T& value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  return {from, from + sizeof value};
}

constexpr unsigned kKeySize = 4, kValueSize = 8, kMaxEntries = 12, kFlags = 16, kInner = 20, kName = 28, kBtfFd = 48;

std::vector<Deviation> deviations() {
  std::vector<Deviation> all;
  const auto word = [&](const char* name, unsigned offset, uint32_t value) {
    all.push_back({name + (" " + std::to_string(value)), offset, bytes_of(value)});
  };
  for (const uint32_t size :
       {0U,   1U,   2U,   3U,   4U,    5U,     7U,       8U,       12U,         16U,         17U,         20U,
        260U, 261U, 512U, 513U, 4096U, 65536U, 1U << 20, 1U << 22, 0x7fffffffU, 0x80000000U, 0xfffffff8U, 0xffffffffU})
    word("key size", kKeySize, size);
  for (const uint32_t size : {0U,
                              1U,
                              3U,
                              4U,
                              5U,
                              7U,
                              8U,
                              12U,
                              16U,
                              24U,
                              32U,
                              48U,
                              64U,
                              1016U,
                              1024U,
                              4064U,
                              4096U,
                              32767U,
                              32768U,
                              32769U,
                              65400U,
                              65407U,
                              65408U,
                              4194024U,
                              4194025U,
                              4194251U,
                              4194252U,
                              4U << 20,
                              (4U << 20) + 1,
                              0x7ffffff8U,
                              0x7fffffffU,
                              0x80000000U,
                              0xfffffff0U,
                              0xfffffff8U,
                              0xfffffff9U,
                              0xffffffffU})
    word("value size", kValueSize, size);
  for (const uint32_t entries : {0U,
                                 1U,
                                 2U,
                                 3U,
                                 5U,
                                 100U,
                                 256U,
                                 257U,
                                 1000U,
                                 1024U,
                                 4095U,
                                 4096U,
                                 4097U,
                                 6144U,
                                 8192U,
                                 12288U,
                                 65536U,
                                 1U << 20,
                                 (1U << 20) + 1,
                                 1U << 30,
                                 0x7fffffffU,
                                 0x80000000U,
                                 0x80000001U,
                                 0xfffff000U,
                                 0xffffffffU})
    word("max_entries", kMaxEntries, entries);
  for (unsigned bit = 0; bit < 32; ++bit) {
    all.push_back({"flag bit " + std::to_string(bit), kFlags, bytes_of(1U << bit), Own::kNone, 0, true});
  }
  word("flags", kFlags, 0);
  for (const uint32_t flags : {BPF_F_RDONLY | BPF_F_WRONLY, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG}) {
    all.push_back({"both ways " + std::to_string(flags), kFlags, bytes_of(flags), Own::kNone, 0, true});
  }
  all.push_back({"inner map", kInner, {}, Own::kInnerMap, kInner});
  all.push_back({"inner map is a file", kInner, {}, Own::kFile, kInner});
  word("inner map fd", kInner, 0xffffffff);
  for (const uint32_t node : {1U, 63U, 64U, 1024U, 0x7fffffffU, 0xffffffffU}) word("node", 24, node);
  for (const uint32_t node : {0U, 1U, 63U, 1024U, 0x7fffffffU, 0xffffffffU}) {
    struct {
      uint32_t flags, inner, node;
    } fields = {BPF_F_NUMA_NODE, 0, node};
    all.push_back({"on node " + std::to_string(node), kFlags, bytes_of(fields), Own::kNone, 0, true});
  }
  for (const char* name : {"a", "A_z.09", "0123456789abcde", "0123456789abcdef", "bad name", "a-b", "a/b", "\x80"}) {
    std::vector<uint8_t> bytes(16);
    // What stands behind the first NUL is nobody's business.
    std::memcpy(bytes.data(), name, strnlen(name, 16));
    if (strcmp(name, "a") == 0) bytes[3] = '-';
    all.push_back({std::string("name ") + name, kName, bytes});
  }
  word("ifindex", 44, 1);
  word("ifindex", 44, 0xffffffff);
  word("btf_fd", kBtfFd, 0xffffffff);
  struct Types {
    uint32_t key, value;
  };
  for (const Types types : {Types{kU32, kU64}, Types{kU32, 0}, Types{0, kU64}, Types{kU64, kU64},
                            Types{kU32, kPlainValue}, Types{kU32, kU32}, Types{77, kU64}, Types{kU32, 77},
                            Types{kPlainValue, kU64}, Types{kStorageKey, kU64}, Types{0xffffffff, 0xffffffff}}) {
    const std::string name = "types " + std::to_string(types.key) + " and " + std::to_string(types.value);
    all.push_back({name, 52, bytes_of(types), Own::kBtf, kBtfFd});
    if (types.key == kU32 && types.value == kU64) {
      all.push_back({name + " of a file", 52, bytes_of(types), Own::kFile, kBtfFd});
      all.push_back({name + " of nothing", kBtfFd, bytes_of(std::array<uint32_t, 3>{0xffffffff, kU32, kU64})});
    }
  }
  word("vmlinux type", 60, 1);
  for (const uint64_t extra :
       {1ULL, 3ULL, 15ULL, 16ULL, 4095ULL, 4096ULL, 1ULL << 32, (1ULL << 32) - 4096, 1ULL << 44, 1ULL << 63, ~0ULL})
    all.push_back({"extra " + std::to_string(extra), 64, bytes_of(extra)});
  word("value_type_btf_obj_fd", 72, 0xffffffff);
  word("token fd", 76, 0xffffffff);
  all.push_back({"program hash", 80, bytes_of(uint64_t{1})});
  word("program hash size", 88, 32);
  word("behind the attributes", 92, 1);
  return all;
}

constexpr double kMuch = 2e6;  // bytes; closed maps pile up for a while, since the kernel frees them in the background

/// What the kernel would take for such a map: wholly, and in the piece that decides; roughly.
struct Cost {
  double whole, piece;
};

Cost cost_of(const bpf_attr& attr) {
  const double entries = attr.max_entries, value = attr.value_size;
  const auto cpus = static_cast<double>(sysconf(_SC_NPROCESSORS_CONF));
  switch (attr.map_type) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
      if ((attr.map_flags & BPF_F_NO_PREALLOC) != 0) return {32 * entries, 16 * entries};
      return {entries * (96 + value + attr.key_size), entries * (48 + value + attr.key_size)};
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      return {entries * (96 + cpus * value + attr.key_size), 16 * entries};
    case BPF_MAP_TYPE_ARRAY:
      return {entries * (value + 8), entries * value};
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      return {entries * (cpus * value + 16), entries * 8};
    case BPF_MAP_TYPE_LPM_TRIE:
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
    case BPF_MAP_TYPE_ARENA:
      return {0, 0};
    case BPF_MAP_TYPE_STACK_TRACE:
      return {entries * (value + 32), entries * 8};  // the buckets come first
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK:
      return {entries * value, entries * value};
    case BPF_MAP_TYPE_BLOOM_FILTER:
      return {entries * 3, 0};
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF:
      // What is no size of a ring costs nothing.
      return std::has_single_bit(attr.max_entries) ? Cost{entries, 0} : Cost{0, 0};
    default:
      return {entries * 16, entries * 8};
  }
}

/// Neither much memory for a moment nor a machine that swaps: little, or more in one piece than there is at all.
bool affordable(const bpf_attr& attr) {
  static const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  const Cost cost = cost_of(attr);
  return cost.whole <= kMuch || cost.piece >= 1.2 * memory;
}

class CreateOracleTest : public testing::Test {
 protected:
  // One instance for all tests: a process keeps the one that it opened first.
  static void SetUpTestSuite() {
    directory_ = new TestDirectory;
    setenv("SKEP_DIR", directory_->path().c_str(), 1);
  }
  static void TearDownTestSuite() { delete directory_; }
  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
    const auto blob = sample_btf();
    for (int side = 0; side < 2; ++side) {
      bpf_attr attr{};
      attr.btf = reinterpret_cast<uint64_t>(blob.data());
      attr.btf_size = static_cast<uint32_t>(blob.size());
      btf_[side] = call(side, BPF_BTF_LOAD, attr, sizeof attr);
      ASSERT_GE(btf_[side], 0);
      attr = {};
      attr.map_type = BPF_MAP_TYPE_ARRAY;
      attr.key_size = 4;
      attr.value_size = 8;
      attr.max_entries = 2;
      inner_[side] = call(side, BPF_MAP_CREATE, attr, 72);
      ASSERT_GE(inner_[side], 0);
    }
  }
  void TearDown() override {
    for (int side = 0; side < 2; ++side) close(btf_[side]), close(inner_[side]);
  }

  int call(int side, int command, bpf_attr& attr, unsigned size) {
    const int result = kSides[side](command, &attr, size);
    return result < 0 ? -errno : result;
  }
  int own(int side, Own what) { return what == Own::kBtf ? btf_[side] : what == Own::kInnerMap ? inner_[side] : 0; }

  bpf_attr attributes(const KindForm& form, const std::vector<const Deviation*>& wrong, int side) {
    bpf_attr attr{};
    attr.map_type = form.type;
    attr.key_size = form.key_size;
    attr.value_size = form.value_size;
    attr.max_entries = std::min(form.max_entries, form.max_entries == 1024 ? 4 : form.max_entries);
    attr.map_flags = form.flags;
    if (form.of_maps) attr.inner_map_fd = static_cast<uint32_t>(inner_[side]);
    auto* bytes = reinterpret_cast<uint8_t*>(&attr);
    for (const Deviation* deviation : wrong) {
      for (size_t i = 0; i < deviation->bytes.size(); ++i) {
        uint8_t& byte = bytes[deviation->offset + i];
        byte = deviation->added ? byte | deviation->bytes[i] : deviation->bytes[i];
      }
      if (deviation->own != Own::kNone) {
        const int fd = own(side, deviation->own);
        std::memcpy(bytes + deviation->own_offset, &fd, 4);
      }
    }
    return attr;
  }

  /// What a map shows of itself, apart from the numbers that are each side's own.
  bpf_map_info info(int side, int fd) {
    bpf_map_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr{};
    attr.info.bpf_fd = static_cast<uint32_t>(fd);
    attr.info.info_len = 100;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    EXPECT_EQ(call(side, BPF_OBJ_GET_INFO_BY_FD, attr, 16), 0) << skep_last_error();
    info.id = 0;
    info.btf_id = info.btf_id != 0 ? 1 : 0;
    return info;
  }

  void compare(const KindForm& form, const std::vector<const Deviation*>& wrong) {
    bpf_attr attrs[2] = {attributes(form, wrong, 0), attributes(form, wrong, 1)};
    if (!affordable(attrs[0])) return;
    // Newer kernels have it; docs/differences.md.
    if (form.type == BPF_MAP_TYPE_RINGBUF && (attrs[0].map_flags & BPF_F_RB_OVERWRITE) != 0) return;
    // Maps of one program are EINVAL here; docs/bpf.md.
    if (attrs[0].excl_prog_hash != 0 && attrs[0].excl_prog_hash_size == 32) return;
    // Whether memory for a map beyond all bounds is asked for before or after name and types are looked at: the same.
    if (wrong.size() > 1 && cost_of(attrs[0]).piece > kMuch) return;
    std::string what = form.name;
    for (const Deviation* deviation : wrong) what += ", " + deviation->name;
    int fds[2];
    for (int side = 0; side < 2; ++side) fds[side] = call(side, BPF_MAP_CREATE, attrs[side], sizeof(bpf_attr));
    // The kernel gives per-CPU memory and freed maps back in the background.
    for (int tries = 0; fds[0] == -ENOMEM && cost_of(attrs[0]).whole <= kMuch && tries < 300; ++tries) {
      usleep(3000);
      fds[0] = call(0, BPF_MAP_CREATE, attrs[0], sizeof(bpf_attr));
    }
    if (!skep_has(form.type)) {
      EXPECT_LT(fds[1], 0) << what;
    } else {
      EXPECT_EQ(std::min(fds[0], 0), std::min(fds[1], 0)) << what << ": " << skep_last_error();
      if (fds[0] >= 0 && fds[1] >= 0) {
        ++created_;
        const bpf_map_info kernel = info(0, fds[0]), skep = info(1, fds[1]);
        EXPECT_EQ(std::memcmp(&kernel, &skep, 100), 0)
            << what << ": " << kernel.max_entries << " " << skep.max_entries << ", " << kernel.map_flags << " "
            << skep.map_flags << ", " << kernel.map_extra << " " << skep.map_extra;
      }
    }
    for (const int fd : fds) {
      if (fd >= 0) close(fd);
    }
    ++compared_;
  }
  void TellHowMany() const {
    printf("%llu creations compared, %llu maps came of it\n", static_cast<unsigned long long>(compared_),
           static_cast<unsigned long long>(created_));
  }

  static constexpr BpfFunction kSides[2] = {kernel_bpf, skep_bpf};
  static inline TestDirectory* directory_ = nullptr;
  int btf_[2] = {-1, -1}, inner_[2] = {-1, -1};
  uint64_t compared_ = 0, created_ = 0;
};

TEST_F(CreateOracleTest, OneThingWrong) {
  const auto all = deviations();
  for (const KindForm& form : kind_forms()) {
    compare(form, {});
    for (const Deviation& deviation : all) compare(form, {&deviation});
  }
  TellHowMany();
  EXPECT_GT(created_, 500u);
}

/// Some kinds check their attributes before tokens and devices are looked at, others afterwards.
TEST_F(CreateOracleTest, ATokenOrADeviceAndOneThingWrong) {
  const auto all = deviations();
  const auto named = [&](const std::string& name) {
    const auto found = std::ranges::find(all, name, &Deviation::name);
    EXPECT_NE(found, all.end()) << name;
    return &*found;
  };
  const Deviation* const token = named("flag bit 16");
  const Deviation* const no_descriptor = named("token fd 4294967295");
  const Deviation* const device = named("ifindex 4294967295");
  for (const KindForm& form : kind_forms()) {
    for (const Deviation& deviation : all) {
      compare(form, {token, no_descriptor, &deviation});
      compare(form, {device, &deviation});
    }
  }
  TellHowMany();
}

TEST_F(CreateOracleTest, SeveralThingsWrong) {
  const uint64_t seed = number_from_environment("SKEP_ORACLE_SEED", static_cast<uint64_t>(time(nullptr)));
  const uint64_t operations = number_from_environment("SKEP_ORACLE_OPS", 200000) / 40;
  printf("SKEP_ORACLE_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  const auto all = deviations();
  const auto forms = kind_forms();
  for (uint64_t i = 0; i < operations; ++i) {
    std::vector<const Deviation*> wrong;
    for (uint64_t more = 2 + random() % 2; more > 0; --more) wrong.push_back(&all[random() % all.size()]);
    compare(forms[random() % forms.size()], wrong);
  }
  TellHowMany();
}

// Kinds that are none, and attributes shorter than a kind's fields.
TEST_F(CreateOracleTest, NoKindAndShortAttributes) {
  for (const uint32_t type : {0U, 36U, 255U, 0x7fffffffU, 0x80000000U, 0xffffffffU}) {
    const KindForm form{"no kind", type, 4, 8, 4};
    bpf_attr attrs[2] = {attributes(form, {}, 0), attributes(form, {}, 1)};
    for (int side = 0; side < 2; ++side) EXPECT_EQ(call(side, BPF_MAP_CREATE, attrs[side], 72), -EINVAL) << type;
  }
  for (const KindForm& form : kind_forms()) {
    if (!skep_has(form.type)) continue;
    for (unsigned size = 0; size <= 96; size += 4) {
      int fds[2];
      for (int side = 0; side < 2; ++side) {
        bpf_attr attr = attributes(form, {}, side);
        fds[side] = call(side, BPF_MAP_CREATE, attr, size);
      }
      EXPECT_EQ(std::min(fds[0], 0), std::min(fds[1], 0)) << form.name << " attributes of " << size << " bytes";
      for (const int fd : fds) {
        if (fd >= 0) close(fd);
      }
    }
  }
}

}  // namespace
}  // namespace skep::oracle
