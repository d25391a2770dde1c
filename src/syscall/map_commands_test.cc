// SPDX-License-Identifier: Apache-2.0
// Every error of the map commands, and the order in which they are found, compared with the kernel's.
#include <fcntl.h>
#include <sys/mman.h>

#include "syscall/two_faces.h"

namespace skep {
namespace {

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kArray = BPF_MAP_TYPE_ARRAY;
constexpr uint32_t kPerCpuHash = BPF_MAP_TYPE_PERCPU_HASH, kPerCpuArray = BPF_MAP_TYPE_PERCPU_ARRAY;

class MapCommandsTest : public TwoFaces {};

int create(Face& face, const bpf_attr& attr) {
  const int fd = face.call(BPF_MAP_CREATE, attr);
  face.expect("create type " + std::to_string(attr.map_type), fd);
  return fd;
}

TEST_F(MapCommandsTest, CreateSizes) {
  compare([](Face& face) {
    const uint32_t sizes[] = {0, 1, 3, 4, 8, 32767, 32768, 32769, 4194251, 4194252, 0x7fffffff, 0xffffffff};
    for (const uint32_t type : {kHash, kArray, kPerCpuHash, kPerCpuArray}) {
      for (const uint32_t key : sizes) {
        if (key > 32769) continue;
        ::close(create(face, map_attr(type, key, 4, 1)));
      }
      for (const uint32_t value : sizes) {
        if (type == kArray && value >= 0x7fffffff) continue;  // a matter of memory
        face.note("value size", value);
        ::close(create(face, map_attr(type, 4, value, 1)));
      }
      ::close(create(face, map_attr(type, 4, 4, 0)));
      if (type == kHash || type == kPerCpuHash) {
        ::close(create(face, map_attr(type, 4, 4, 0x80000001)));
        ::close(create(face, map_attr(type, 4, 4, 0xffffffff)));
      }
    }
  });
}

TEST_F(MapCommandsTest, CreateFlags) {
  compare([](Face& face) {
    for (const uint32_t type : {kHash, kArray, kPerCpuHash, kPerCpuArray})
      for (uint32_t bit = 0; bit < 32; ++bit) {
        face.note("flag bit", bit);
        ::close(create(face, map_attr(type, 4, 4, 1, 1U << bit)));
      }
    for (const uint32_t both : {BPF_F_RDONLY | BPF_F_WRONLY, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG})
      ::close(create(face, map_attr(kHash, 4, 4, 1, both)));
  });
}

TEST_F(MapCommandsTest, CreateAttributes) {
  compare([](Face& face) {
    const auto with = [&](const char* what, const std::function<void(bpf_attr&)>& change, uint32_t type = kHash) {
      bpf_attr attr = map_attr(type, 4, 4, 1);
      change(attr);
      const int fd = face.call(BPF_MAP_CREATE, attr);
      face.expect(what, fd);
      ::close(fd);
    };
    for (const uint32_t type : {0U, 34U, 35U, 255U, 0xffffffffU}) with("type", [&](bpf_attr& a) { a.map_type = type; });
    with("ignored inner map", [](bpf_attr& a) { a.inner_map_fd = 4711; });
    with("ignored numa node", [](bpf_attr& a) { a.numa_node = 4711; });
    with("numa node 0", [](bpf_attr& a) { a.map_flags = BPF_F_NUMA_NODE; });
    with("numa node 63", [](bpf_attr& a) { a.map_flags = BPF_F_NUMA_NODE, a.numa_node = 63; });
    with("no numa node", [](bpf_attr& a) { a.map_flags = BPF_F_NUMA_NODE, a.numa_node = UINT32_MAX; });
    with("ifindex", [](bpf_attr& a) { a.map_ifindex = 1; });
    with("ifindex and bad sizes", [](bpf_attr& a) { a.map_ifindex = 1, a.key_size = 0; });
    with("ignored token", [](bpf_attr& a) { a.map_token_fd = 4711; });
    with("bad token", [](bpf_attr& a) { a.map_flags = BPF_F_TOKEN_FD, a.map_token_fd = 4711; });
    with("ignored btf", [](bpf_attr& a) { a.btf_fd = 4711; });
    with("closed btf", [](bpf_attr& a) { a.btf_fd = 4711, a.btf_key_type_id = 1, a.btf_value_type_id = 1; });
    with("stdin as btf", [](bpf_attr& a) { a.btf_fd = 0, a.btf_key_type_id = 1, a.btf_value_type_id = 1; });
    with("key type without value type", [](bpf_attr& a) { a.btf_key_type_id = 1; });
    with("closed btf, value type only", [](bpf_attr& a) { a.btf_fd = 4711, a.btf_value_type_id = 1; });
    with("vmlinux type", [](bpf_attr& a) { a.btf_vmlinux_value_type_id = 1; });
    with("map_extra", [](bpf_attr& a) { a.map_extra = 1; });
    with("value type object without flag", [](bpf_attr& a) { a.value_type_btf_obj_fd = 4711; });
    with("hash of a program: size only", [](bpf_attr& a) { a.excl_prog_hash_size = 32; });
    for (const char* name : {"ok_Name.1", "", "fifteen_letters", "a-b", "a b", "\x80"})
      with(name, [&](bpf_attr& a) { std::memcpy(a.map_name, name, std::strlen(name)); });
    with("sixteen letters", [](bpf_attr& a) { std::memset(a.map_name, 'a', 16); });
    with("garbage behind the name", [](bpf_attr& a) { std::memcpy(a.map_name, "a\0-\xff", 4); });
    with("bad name and closed btf", [](bpf_attr& a) {
      a.map_name[0] = '-';
      a.btf_fd = 4711, a.btf_key_type_id = 1, a.btf_value_type_id = 1;
    });
    with("bad name and no entries", [](bpf_attr& a) { a.map_name[0] = '-', a.max_entries = 0; });
    with("bad sizes and ifindex", [](bpf_attr& a) { a.map_ifindex = 1, a.value_size = 0xffffffff; });
  });
}

TEST_F(MapCommandsTest, Descriptors) {
  compare([](Face& face) {
    const int map = create(face, map_attr(kHash, 4, 4, 4));
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    const int path = ::open("/", O_PATH | O_CLOEXEC);
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const int closed = ::dup(map);
    ::close(closed);
    uint32_t key = 1, value = 2;
    for (const int fd : {-1, INT32_MIN, closed, 99999, null, path, pipe_ends[0], map})
      for (const int cmd : {BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                            BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_FREEZE, BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH,
                            BPF_MAP_DELETE_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH}) {
        bpf_attr attr = element_attr(fd, &key, &value);
        if (cmd == BPF_MAP_DELETE_ELEM) attr.value = 0;
        if (cmd == BPF_MAP_FREEZE) attr.key = attr.value = 0;
        if (cmd >= BPF_MAP_LOOKUP_BATCH) {
          attr = no_attr();
          attr.batch.map_fd = static_cast<uint32_t>(fd);
        }
        face.expect("command " + std::to_string(cmd), face.call(cmd, attr));
      }
    for (const int fd : {map, null, path, pipe_ends[0], pipe_ends[1]}) ::close(fd);
  });
}

TEST_F(MapCommandsTest, PointersAndFlags) {
  compare([](Face& face) {
    for (const uint32_t type : {kHash, kArray, kPerCpuHash, kPerCpuArray}) {
      const int map = create(face, map_attr(type, 4, 8, 2));
      uint64_t values[512] = {};
      uint32_t key = 1;
      const void* const bad = reinterpret_cast<void*>(uintptr_t{8});
      const uint64_t all_flags[] = {0, 1, 2, 3, 4, 5, 7, 32, 64, uint64_t{1} << 32, uint64_t{1} << 63};
      for (const uint64_t flags : all_flags)
        for (const int cmd : {BPF_MAP_UPDATE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM})
          for (const int fd : {map, -1}) {
            const std::string what = "command " + std::to_string(cmd) + " flags " + std::to_string(flags);
            face.expect(what, face.call(cmd, element_attr(fd, &key, values, flags)));
            face.expect(what + " bad key", face.call(cmd, element_attr(fd, bad, values, flags)));
            face.expect(what + " null key", face.call(cmd, element_attr(fd, nullptr, values, flags)));
            face.expect(what + " bad value", face.call(cmd, element_attr(fd, &key, bad, flags)));
          }
      uint32_t next = 0;
      face.expect("first key", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, &next)));
      face.expect("bad key", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, bad, &next)));
      face.expect("bad next", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, bad)));
      face.expect("delete", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &key, nullptr)));
      face.expect("delete again", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &key, nullptr)));
      face.expect("delete bad key", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, bad, nullptr)));
      ::close(map);
    }
  });
}

TEST_F(MapCommandsTest, AccessOfDescriptors) {
  compare([](Face& face) {
    for (const uint32_t flags : {uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY}, 0U}) {
      const int map = create(face, map_attr(kHash, 4, 4, 4, flags));
      face.note("flags", flags);
      face.note("mode", ::fcntl(map, F_GETFL) & O_ACCMODE);
      face.note("close on exec", ::fcntl(map, F_GETFD));
      uint32_t keys[4] = {1, 2}, values[4] = {};
      face.expect("update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, keys, values)));
      face.expect("lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, keys, values)));
      face.expect("next", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, values)));
      face.expect("take", face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(map, keys, values)));
      face.expect("delete", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, keys, nullptr)));
      uint32_t cursor = 0;
      bpf_attr batch = no_attr();
      batch.batch.map_fd = static_cast<uint32_t>(map);
      batch.batch.keys = reinterpret_cast<uint64_t>(keys);
      batch.batch.values = reinterpret_cast<uint64_t>(values);
      batch.batch.out_batch = reinterpret_cast<uint64_t>(&cursor);
      batch.batch.count = 1;
      face.expect("update batch", face.call(BPF_MAP_UPDATE_BATCH, batch));
      batch.batch.count = 4;
      face.expect("lookup batch", face.call(BPF_MAP_LOOKUP_BATCH, batch));
      face.expect("take batch", face.call(BPF_MAP_LOOKUP_AND_DELETE_BATCH, batch));
      batch.batch.count = 1;
      face.expect("delete batch", face.call(BPF_MAP_DELETE_BATCH, batch));
      bpf_map_info info;
      std::memset(&info, 0, sizeof info);
      bpf_attr query = no_attr();
      query.info.bpf_fd = static_cast<uint32_t>(map);
      query.info.info_len = sizeof info;
      query.info.info = reinterpret_cast<uint64_t>(&info);
      face.expect("info", face.call(BPF_OBJ_GET_INFO_BY_FD, query));
      face.note("flags in info", info.map_flags);
      bpf_attr freeze = no_attr();
      freeze.map_fd = static_cast<uint32_t>(map);
      face.expect("freeze", face.call(BPF_MAP_FREEZE, freeze));
      face.expect("freeze again", face.call(BPF_MAP_FREEZE, freeze));
      face.expect("update frozen", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, keys, values)));
      face.expect("update frozen, bad flags", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, keys, values, 4)));
      face.expect("delete frozen", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, keys, nullptr)));
      face.expect("update batch frozen", face.call(BPF_MAP_UPDATE_BATCH, batch));
      face.expect("lookup frozen", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, keys, values)));
      bpf_attr by_id = no_attr();
      by_id.map_id = info.id;
      const int again = face.call(BPF_MAP_GET_FD_BY_ID, by_id);
      face.expect("another descriptor", again);
      face.expect("update frozen by it", face.call(BPF_MAP_UPDATE_ELEM, element_attr(again, keys, values)));
      ::close(again);
      ::close(map);
    }
  });
}

TEST_F(MapCommandsTest, Batches) {
  compare([](Face& face) {
    for (const uint32_t type : {kHash, kArray, kPerCpuHash, kPerCpuArray}) {
      const int map = create(face, map_attr(type, 4, 8, 8));
      uint32_t keys[16], cursor[4] = {};
      uint64_t values[16 * 64] = {};
      for (uint32_t i = 0; i < 16; ++i) keys[i] = i;
      const auto batch = [&](const char* what, int cmd, uint32_t count, const std::function<void(bpf_attr&)>& change) {
        bpf_attr attr = no_attr();
        attr.batch.map_fd = static_cast<uint32_t>(map);
        attr.batch.keys = reinterpret_cast<uint64_t>(keys);
        attr.batch.values = reinterpret_cast<uint64_t>(values);
        attr.batch.out_batch = reinterpret_cast<uint64_t>(cursor);
        attr.batch.count = count;
        change(attr);
        const std::string name =
            std::string(what) + " command " + std::to_string(cmd) + " type " + std::to_string(type);
        face.expect(name, face.call(cmd, &attr, sizeof attr));
        face.note(name + " count", attr.batch.count);
      };
      const auto plain = [](bpf_attr&) {};
      const uint64_t bad = 8;
      batch("too many", BPF_MAP_UPDATE_BATCH, 9, plain);
      for (uint32_t i = 0; i < 16; ++i) keys[i] = i;
      for (const int cmd :
           {BPF_MAP_UPDATE_BATCH, BPF_MAP_LOOKUP_BATCH, BPF_MAP_DELETE_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH}) {
        batch("none", cmd, 0, plain);
        batch("none, bad pointers", cmd, 0, [&](bpf_attr& a) { a.batch.keys = a.batch.values = bad; });
        batch("flags", cmd, 1, [](bpf_attr& a) { a.batch.flags = 1; });
        batch("flags, none", cmd, 0, [](bpf_attr& a) { a.batch.flags = 1; });
        for (const uint64_t flags : {1, 2, 3, 4, 5, 32})
          batch("element flags", cmd, 1, [&](bpf_attr& a) { a.batch.elem_flags = flags; });
        batch("element flags, none", cmd, 0, [](bpf_attr& a) { a.batch.elem_flags = 1; });
        batch("bad keys", cmd, 8, [&](bpf_attr& a) { a.batch.keys = bad; });
        batch("bad cursor in", cmd, 1, [&](bpf_attr& a) { a.batch.in_batch = bad; });
      }
      for (uint32_t i = 0; i < 8; ++i) keys[i] = i;
      batch("fill again", BPF_MAP_UPDATE_BATCH, 8, plain);
      batch("bad values", BPF_MAP_UPDATE_BATCH, 1, [&](bpf_attr& a) { a.batch.values = bad; });
      batch("bad values", BPF_MAP_LOOKUP_BATCH, 8, [&](bpf_attr& a) { a.batch.values = bad; });
      batch("bad cursor out", BPF_MAP_LOOKUP_BATCH, 8, [&](bpf_attr& a) { a.batch.out_batch = bad; });
      batch("all", BPF_MAP_LOOKUP_BATCH, 8, plain);
      batch("more than all", BPF_MAP_LOOKUP_BATCH, 16, plain);
      uint32_t far[4] = {1000, 0, 0, 0};
      batch("from far behind", BPF_MAP_LOOKUP_BATCH, 8,
            [&](bpf_attr& a) { a.batch.in_batch = reinterpret_cast<uint64_t>(far); });
      for (uint32_t i = 0; i < 8; ++i) keys[i] = i;
      keys[3] = 1000;
      batch("a missing key", BPF_MAP_DELETE_BATCH, 8, plain);
      batch("take the rest", BPF_MAP_LOOKUP_AND_DELETE_BATCH, 16, plain);
      batch("take from nothing", BPF_MAP_LOOKUP_AND_DELETE_BATCH, 16, plain);
      ::close(map);
    }
  });
}

// The second page of the keys cannot be read: the elements before it are done, the count says how many.
TEST_F(MapCommandsTest, ABatchThatRunsOutOfMemory) {
  compare([](Face& face) {
    const int map = create(face, map_attr(kHash, 4, 8, 4096));
    auto* keys =
        static_cast<uint32_t*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(keys, MAP_FAILED);
    for (uint32_t i = 0; i < 1024; ++i) keys[i] = i;
    ::mprotect(keys + 1024, 4096, PROT_NONE);
    std::vector<uint64_t> values(2048, 1);
    for (const int cmd : {BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH}) {
      bpf_attr attr = no_attr();
      attr.batch.map_fd = static_cast<uint32_t>(map);
      attr.batch.keys = reinterpret_cast<uint64_t>(keys + 300);
      attr.batch.values = reinterpret_cast<uint64_t>(values.data());
      attr.batch.count = 2000;
      face.expect("batch", face.call(cmd, &attr, sizeof attr));
      face.note("count", attr.batch.count);
    }
    ::munmap(keys, 8192);
    ::close(map);
  });
}

}  // namespace
}  // namespace skep
