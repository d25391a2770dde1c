// SPDX-License-Identifier: Apache-2.0
// Which kinds of maps may have which special fields in their values, here and on the kernel.
#include <algorithm>
#include <vector>

#include "btf/btf_builder.h"
#include "syscall/two_faces.h"

namespace skep {
namespace {

struct FieldKind {
  const char* name;
  uint32_t size;   // bytes of the struct that is declared
  uint32_t words;  // how many unsigned longs it has; 0: one unsigned int
};
constexpr FieldKind kFields[] = {
    {"bpf_spin_lock", 4, 0}, {"bpf_res_spin_lock", 4, 0}, {"bpf_timer", 16, 2},
    {"bpf_wq", 16, 2},       {"bpf_task_work", 8, 1},     {"bpf_timer", 8, 1},
    {"bpf_spin_lock", 8, 1}, {"bpf_task_work", 16, 2},    {"bpf_plain", 16, 2},
};
constexpr uint32_t kTypes[] = {BPF_MAP_TYPE_HASH,         BPF_MAP_TYPE_ARRAY,        BPF_MAP_TYPE_LRU_HASH,
                               BPF_MAP_TYPE_PERCPU_HASH,  BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH,
                               BPF_MAP_TYPE_BLOOM_FILTER, BPF_MAP_TYPE_QUEUE,        BPF_MAP_TYPE_STACK};

/// A field that a value may have several of, and no program here can use yet: how it is declared.
struct EmptyField {
  const char* name;
  uint32_t (*declare)(BtfBuilder&, uint32_t u32, uint32_t u64);
  bool contains;  // a root: with the tag that says what it holds
};
uint32_t opaque(BtfBuilder& b, const char* name, uint32_t words, uint32_t u32, uint32_t u64) {
  return b.structure(name, 8 * words, {{"opaque", b.array(u64, u32, words), 0}});
}
template <const char* const* kTag, const char* const* kTarget>
uint32_t pointer(BtfBuilder& b, uint32_t, uint32_t u64) {
  const uint32_t target = b.structure(*kTarget, 8, {{"x", u64, 0}});
  return b.add(BtfKind::kPtr, "", b.add(BtfKind::kTypeTag, *kTag, target));
}
constexpr const char *kOwned = "kptr", *kUntrusted = "kptr_untrusted", *kPerCpu = "percpu_kptr", *kUser = "uptr";
constexpr const char *kTask = "task_struct", *kFile = "file", *kLocal = "a_struct_of_its_own", *kMask = "bpf_cpumask";
constexpr EmptyField kEmptyFields[] = {
    {"a task", pointer<&kOwned, &kTask>, false},
    {"a CPU mask", pointer<&kOwned, &kMask>, false},
    {"a struct of its own", pointer<&kOwned, &kLocal>, false},
    {"a file", pointer<&kOwned, &kFile>, false},
    {"a file, untrusted", pointer<&kUntrusted, &kFile>, false},
    {"per-CPU memory", pointer<&kPerCpu, &kLocal>, false},
    {"user memory", pointer<&kUser, &kLocal>, false},
    {"two files",
     [](BtfBuilder& b, uint32_t u32, uint32_t u64) { return b.array(pointer<&kOwned, &kFile>(b, u32, u64), u32, 2); },
     false},
    {"two tasks",
     [](BtfBuilder& b, uint32_t u32, uint32_t u64) { return b.array(pointer<&kOwned, &kTask>(b, u32, u64), u32, 2); },
     false},
    {"a count",
     [](BtfBuilder& b, uint32_t u32, uint32_t) {
       return b.structure("bpf_refcount", 4, {{"opaque", u32, 0}});
     },
     false},
    {"a list", [](BtfBuilder& b, uint32_t u32, uint32_t u64) { return opaque(b, "bpf_list_head", 2, u32, u64); }, true},
    {"a tree", [](BtfBuilder& b, uint32_t u32, uint32_t u64) { return opaque(b, "bpf_rb_root", 2, u32, u64); }, true},
    {"a list of nothing",
     [](BtfBuilder& b, uint32_t u32, uint32_t u64) { return opaque(b, "bpf_list_head", 2, u32, u64); }, false},
};

class SpecialFieldsOracleTest : public TwoFaces {
 protected:
  /// BTF of a value | field | ... 16: u64 | lock or int | ... |, loaded.
  static int load(Face& face, const EmptyField& field, bool lock, uint32_t& value_type) {
    BtfBuilder b;
    const uint32_t u32 = b.integer("unsigned int", 4), u64 = b.integer("unsigned long", 8);
    const uint32_t list_node = opaque(b, "bpf_list_node", 3, u32, u64);
    const uint32_t tree_node = opaque(b, "bpf_rb_node", 4, u32, u64);
    const uint32_t count = b.structure("bpf_refcount", 4, {{"opaque", u32, 0}});
    b.structure("item", 64, {{"in_list", list_node, 0}, {"in_tree", tree_node, 192}, {"count", count, 448}});
    const uint32_t own = field.declare(b, u32, u64);
    const uint32_t guard = lock ? b.structure("bpf_spin_lock", 4, {{"value", u32, 0}}) : u32;
    value_type = b.structure("value", 32, {{"field", own, 0}, {"a", u64, 128}, {"guard", guard, 192}});
    if (field.contains) {
      const bool list = std::string_view(field.name) == "a list";
      b.add(BtfKind::kDeclTag, list ? "contains:item:in_list" : "contains:item:in_tree", value_type, 0, false, {0});
    }
    const auto raw = b.raw();
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    return face.call(BPF_BTF_LOAD, attr);
  }
  /// BTF of a value | field | up to 24: u64 | u64 |, loaded: key type 1, value type the last one.
  static int load(Face& face, const FieldKind& field, bool nested, uint32_t& value_type) {
    BtfBuilder b;
    const uint32_t u32 = b.integer("unsigned int", 4), u64 = b.integer("unsigned long", 8);
    const uint32_t inside = field.words == 0 ? u32 : b.array(u64, u32, field.words);
    uint32_t type = b.structure(field.name, field.size, {{"opaque", inside, 0}});
    if (nested) type = b.structure("inner", field.size, {{"field", type, 0}});
    value_type = b.structure("value", 32, {{"field", type, 0}, {"a", u64, 128}, {"b", u64, 192}});
    const auto raw = b.raw();
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    return face.call(BPF_BTF_LOAD, attr);
  }
  static int create(Face& face, uint32_t type, int btf, uint32_t value_type, uint32_t flags) {
    const bool keyless = type == BPF_MAP_TYPE_BLOOM_FILTER || type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_STACK;
    bpf_attr attr = map_attr(type, keyless ? 0 : 4, 32, 4, flags);
    attr.btf_fd = static_cast<uint32_t>(btf);
    attr.btf_key_type_id = keyless ? 0 : 1;
    attr.btf_value_type_id = value_type;
    return face.call(BPF_MAP_CREATE, attr);
  }
};

TEST_F(SpecialFieldsOracleTest, CreateMatrix) {
  compare([](Face& face) {
    for (const FieldKind& field : kFields) {
      for (const bool nested : {false, true}) {
        uint32_t value_type = 0;
        const int btf = load(face, field, nested, value_type);
        const std::string what = std::string(field.name) + " of " + std::to_string(field.size);
        face.expect(what, btf);
        for (const uint32_t type : kTypes) {
          for (const uint32_t flags : {0U, uint32_t{BPF_F_RDONLY_PROG}}) {
            const int fd = create(face, type, btf, value_type, flags);
            face.expect(what + " in type " + std::to_string(type) + " flags " + std::to_string(flags), fd);
            if (fd >= 0) ::close(fd);
          }
        }
        ::close(btf);
      }
    }
  });
}

TEST_F(SpecialFieldsOracleTest, UsersReadZerosAndCannotFreeze) {
  compare([](Face& face) {
    for (const FieldKind& field : kFields) {
      uint32_t value_type = 0;
      const int btf = load(face, field, false, value_type);
      for (const uint32_t type : {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY}) {
        const int fd = create(face, type, btf, value_type, 0);
        const std::string what =
            std::string(field.name) + " of " + std::to_string(field.size) + " in type " + std::to_string(type);
        face.expect(what, fd);
        const uint32_t key = 1;
        uint64_t value[4];
        for (int round = 0; round < 2; ++round) {
          std::memset(value, 0x55, sizeof value);
          face.note(what + " update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(fd, &key, value)));
          face.note(what + " lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(fd, &key, value)));
          for (const uint64_t word : value) face.note(what + " word", static_cast<int64_t>(word));
        }
        bpf_attr attr = no_attr();
        attr.map_fd = static_cast<uint32_t>(fd);
        face.note(what + " freeze", face.call(BPF_MAP_FREEZE, attr));
        ::close(fd);
      }
      ::close(btf);
    }
  });
}

// Pointers to objects, roots and counts: where they may be, zeros for users, and never what an update wrote.
TEST_F(SpecialFieldsOracleTest, EmptyFields) {
  compare([](Face& face) {
    for (const EmptyField& field : kEmptyFields) {
      for (const bool lock : {false, true}) {
        uint32_t value_type = 0;
        const int btf = load(face, field, lock, value_type);
        const std::string what = std::string(field.name) + (lock ? " with a lock" : "");
        face.expect(what, btf);
        if (btf < 0) continue;
        for (const uint32_t type : kTypes) {
          const int fd = create(face, type, btf, value_type, 0);
          face.expect(what + " in type " + std::to_string(type), fd);
          if (fd < 0) continue;
          const uint32_t key = 1;
          std::vector<uint64_t> value(4 * 512);
          for (int round = 0; round < 2; ++round) {
            std::ranges::fill(value, 0x5555555555555555);
            face.note(what + " update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(fd, &key, value.data())));
            std::ranges::fill(value, 0);
            face.note(what + " lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(fd, &key, value.data())));
            for (size_t i = 0; i < 8; ++i) {
              if (std::string_view(field.name) == "a list" && i % 4 < 2) continue;  // the kernel's shows addresses
              face.note(what + " word in type " + std::to_string(type), static_cast<int64_t>(value[i]));
            }
          }
          ::close(fd);
        }
        ::close(btf);
      }
    }
  });
}

}  // namespace
}  // namespace skep
