// SPDX-License-Identifier: Apache-2.0
// The text of pinned maps: random types and values, printed by the kernel and by skep.
#include "syscall/map_text.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cstdlib>
#include <random>

#include "btf/btf_builder.h"
#include "syscall/two_faces.h"

namespace skep {
namespace {

/// A type, how large it is, and where pointers lie in it.
struct Type {
  uint32_t id;
  uint32_t size;
  std::vector<uint32_t> pointers;
};

/// Random types in one BTF.
class Types {
 public:
  explicit Types(uint64_t seed) : random_(seed) {
    index_ = builder_.integer("int", 4, 1);
    key_ = {.id = builder_.integer("unsigned int", 4), .size = 4, .pointers = {}};
  }

  Type any(int depth) {
    switch (pick(depth == 0 ? 6 : 11)) {
      case 0:
      case 1:
      case 2:
        return integer();
      case 3:
        return enumeration();
      case 4:
        return {.id = builder_.add(BtfKind::kFloat, "double", 8), .size = 8, .pointers = {}};
      case 5:
        return pointer();
      case 6:
        return renamed(any(depth - 1));
      case 7:
        return array(any(depth - 1));
      case 8:
        return pick(3) == 0 ? bits() : members(depth, BtfKind::kUnion);
      default:
        return members(depth, BtfKind::kStruct);
    }
  }
  [[nodiscard]] Type key() const { return key_; }
  [[nodiscard]] std::vector<std::byte> raw() const { return builder_.raw(); }

  /// A value of the type. Pointers are null or errors: the kernel shows these as they are.
  std::vector<std::byte> value(const Type& type) {
    std::vector<std::byte> bytes(type.size);
    for (std::byte& byte : bytes) {
      const uint32_t shape = pick(4);
      byte = static_cast<std::byte>(shape == 0 ? 0 : shape == 1 ? pick(5) : pick(256));
    }
    for (const uint32_t at : type.pointers) {
      const int64_t shown = pick(2) == 0 ? 0 : -1 - static_cast<int64_t>(pick(100));
      std::memcpy(bytes.data() + at, &shown, sizeof shown);
    }
    return bytes;
  }

  uint32_t pick(uint32_t below) { return static_cast<uint32_t>(random_() % below); }

 private:
  Type integer() {
    const uint32_t bytes = 1U << pick(5);
    const uint32_t encodings[] = {0, 1, 2, 4};
    const uint32_t encoding = bytes == 1 ? encodings[pick(4)] : pick(2);
    return {.id = builder_.integer("i", bytes, encoding), .size = bytes, .pointers = {}};
  }

  Type enumeration() {
    const bool wide = pick(3) == 0, is_signed = pick(2) == 0;
    const uint32_t size = wide ? 8 : 4, zero = builder_.string("ZERO"), last = builder_.string("LAST");
    const uint32_t id =
        wide ? builder_.add(BtfKind::kEnum64, "e", size, 2, is_signed, {zero, 0, 0, last, ~0U, pick(2) == 0 ? 0 : ~0U})
             : builder_.add(BtfKind::kEnum, "e", size, 2, is_signed, {zero, 0, last, ~0U});
    return {.id = id, .size = size, .pointers = {}};
  }

  Type pointer() {
    uint32_t target = 0;
    if (pick(2) == 0) target = any(0).id;
    if (pick(2) == 0) target = builder_.add(BtfKind::kConst, "", target);
    return {.id = builder_.add(BtfKind::kPtr, "", target), .size = 8, .pointers = {0}};
  }

  Type renamed(Type type) {
    constexpr BtfKind kinds[] = {BtfKind::kTypedef, BtfKind::kConst, BtfKind::kVolatile};
    const BtfKind kind = kinds[pick(3)];
    type.id = builder_.add(kind, kind == BtfKind::kTypedef ? "t" : "", type.id);
    return type;
  }

  Type array(Type element) {
    const uint32_t length = pick(4);
    Type type{.id = builder_.array(element.id, index_, length), .size = element.size * length, .pointers = {}};
    for (uint32_t i = 0; i < length; ++i) {
      for (const uint32_t at : element.pointers) type.pointers.push_back(i * element.size + at);
    }
    return type;
  }

  Type members(int depth, BtfKind kind) {
    const uint32_t count = pick(4);
    std::vector<BtfBuilder::Member> list;
    Type type{.id = 0, .size = 0, .pointers = {}};
    for (uint32_t i = 0; i < count; ++i) {
      Type member = any(depth - 1);
      if (kind == BtfKind::kUnion) {
        while (!member.pointers.empty()) member = any(depth - 1);
        list.push_back({"m", member.id, 0});
        type.size = std::max(type.size, (member.size + 15) / 16 * 16);
        continue;
      }
      list.push_back({"m", member.id, type.size * 8});
      for (const uint32_t at : member.pointers) type.pointers.push_back(type.size + at);
      type.size += (member.size + 15) / 16 * 16;
    }
    type.id = builder_.add(kind, "s", type.size, count);
    for (const auto& member : list) builder_.append_member(member);
    return type;
  }

  /// A struct of bit fields.
  Type bits() {
    const uint32_t field = index_;
    uint32_t at = 0;
    std::vector<BtfBuilder::Member> list;
    for (uint32_t i = 0; i < 3; ++i) {
      const uint32_t width = 1 + pick(10);
      list.push_back({"b", field, width << 24 | at});
      at += width;
    }
    const uint32_t id = builder_.add(BtfKind::kStruct, "bits", 4, 3, true);
    for (const auto& member : list) builder_.append_member(member);
    return {.id = id, .size = 4, .pointers = {}};
  }

  std::mt19937_64 random_;
  BtfBuilder builder_;
  uint32_t index_ = 0;
  Type key_{};
};

/// A bpffs that nothing leads to: a mount without a place.
int detached_bpffs() {
  const int context = ::fsopen("bpf", FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int mount = -1;
  if (::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0)
    mount = ::fsmount(context, FSMOUNT_CLOEXEC, 0);
  ::close(context);
  return mount;
}

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = ::read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(count));
  return text;
}

class MapTextOracle : public TwoFaces {
 protected:
  void TearDown() override {
    if (bpffs_ >= 0) ::close(bpffs_);
  }

  /// What the map prints, or the errno.
  std::string text_of(Face& face, int map) {
    if (!face.is_kernel()) {
      const auto text = map_text(*process_, map);
      return text ? *text : "errno " + std::to_string(to_int(text.error()));
    }
    if (bpffs_ < 0) bpffs_ = detached_bpffs();
    if (bpffs_ < 0) return "no bpffs";
    bpf_attr attr = no_attr();
    attr.pathname = reinterpret_cast<uint64_t>("map");
    attr.bpf_fd = static_cast<uint32_t>(map);
    attr.file_flags = BPF_F_PATH_FD;
    attr.path_fd = bpffs_;
    if (const int error = face.call(BPF_OBJ_PIN, attr); error != 0) return "pin " + std::to_string(error);
    const int fd = ::openat(bpffs_, "map", O_RDONLY | O_CLOEXEC);
    std::string text = fd < 0 ? "errno " + std::to_string(errno) : read_all(fd);
    if (fd >= 0) ::close(fd);
    ::unlinkat(bpffs_, "map", 0);
    return text;
  }

  static int load(Face& face, const std::vector<std::byte>& raw) {
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    return face.call(BPF_BTF_LOAD, attr);
  }

  static int make(Face& face, uint32_t type, const Type& key, const Type& value, uint32_t entries, int btf,
                  uint32_t flags = 0) {
    bpf_attr attr = map_attr(type, key.size, value.size, entries, flags);
    attr.btf_fd = static_cast<uint32_t>(btf);
    attr.btf_key_type_id = key.id;
    attr.btf_value_type_id = value.id;
    return face.call(BPF_MAP_CREATE, attr);
  }

  int bpffs_ = -1;
};

TEST_F(MapTextOracle, RandomTypes) {
  const char* wish = std::getenv("SKEP_ORACLE_SEED");
  const uint64_t first = wish != nullptr ? std::strtoull(wish, nullptr, 0) : 1;
  compare([&](Face& face) {
    int made = 0;
    for (uint64_t seed = first; seed < first + 400; ++seed) {
      Types types(seed);
      const Type value = types.any(4);
      if (value.size == 0) continue;
      const int btf = load(face, types.raw());
      const int map = make(face, BPF_MAP_TYPE_ARRAY, types.key(), value, 2, btf);
      face.expect("seed " + std::to_string(seed), map);
      if (map >= 0) ++made;
      for (uint32_t key = 0; map >= 0 && key < 2; ++key) {
        const auto bytes = types.value(value);
        face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, bytes.data()));
      }
      if (map >= 0) face.note("seed " + std::to_string(seed), text_of(face, map));
      ::close(btf);
      if (map >= 0) ::close(map);
    }
    EXPECT_GT(made, 200);
  });
}

TEST_F(MapTextOracle, Kinds) {
  compare([&](Face& face) {
    BtfBuilder builder;
    const Type word{.id = builder.integer("unsigned int", 4), .size = 4, .pointers = {}};
    const Type pair{
        .id = builder.structure("pair", 8, {{"a", word.id, 0}, {"b", word.id, 32}}), .size = 8, .pointers = {}};
    const Type none{.id = 0, .size = 4, .pointers = {}}, keyless{.id = 0, .size = 0, .pointers = {}};
    const Type wide{.id = builder.integer("long", 8, 1), .size = 8, .pointers = {}};
    const uint32_t counter = builder.add(BtfKind::kVar, "counter", word.id, 0, false, {1});
    const uint32_t other = builder.add(BtfKind::kVar, "other", pair.id, 0, false, {1});
    const Type section{.id = builder.add(BtfKind::kDatasec, ".data", 12, 2, false, {counter, 0, 4, other, 4, 8}),
                       .size = 12,
                       .pointers = {}};
    const int btf = load(face, builder.raw());
    const auto show = [&](const char* what, uint32_t type, const Type& key, const Type& value, uint32_t entries,
                          uint32_t flags = 0) {
      const int map = make(face, type, key, value, entries, value.id == 0 ? 0 : btf, flags);
      face.expect(what, map);
      if (map < 0) return;
      const uint32_t number[2] = {1, 7};
      const std::vector<uint64_t> content(512, 0x0000000500000003);
      face.note(std::string(what) + " empty", text_of(face, map));
      face.expect(what,
                  face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, key.size == 0 ? nullptr : number, content.data())));
      face.note(std::string(what) + " filled", text_of(face, map));
      ::close(map);
    };
    show("array without types", BPF_MAP_TYPE_ARRAY, none, none, 2);
    show("array", BPF_MAP_TYPE_ARRAY, word, pair, 2);
    show("section", BPF_MAP_TYPE_ARRAY, none, section, 1);
    show("per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, word, pair, 2);
    show("hash", BPF_MAP_TYPE_HASH, pair, word, 4);
    show("hash of integers", BPF_MAP_TYPE_HASH, word, wide, 4, BPF_F_NO_PREALLOC);
    show("per-CPU hash", BPF_MAP_TYPE_PERCPU_HASH, pair, word, 4);
    show("LRU hash", BPF_MAP_TYPE_LRU_HASH, pair, word, 4);
    show("LRU per-CPU hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, pair, word, 4);
    show("trie", BPF_MAP_TYPE_LPM_TRIE, pair, word, 4, BPF_F_NO_PREALLOC);
    show("queue", BPF_MAP_TYPE_QUEUE, keyless, word, 4);
    show("program array", BPF_MAP_TYPE_PROG_ARRAY, word, word, 4);
    show("bloom filter", BPF_MAP_TYPE_BLOOM_FILTER, keyless, word, 4);
    ::close(btf);
  });
}

}  // namespace
}  // namespace skep
