// SPDX-License-Identifier: Apache-2.0
// The rules that every command obeys before it looks at its fields, compared with the kernel's.
#include <fcntl.h>
#include <sys/mman.h>

#include "syscall/two_faces.h"

namespace skep {
namespace {

using BpfTest = TwoFaces;

bpf_attr* at(uint64_t address) { return reinterpret_cast<bpf_attr*>(address); }

TEST_F(BpfTest, SizesOfTheAttr) {
  compare([](Face& face) {
    alignas(8) unsigned char page[8192] = {};
    auto* attr = reinterpret_cast<bpf_attr*>(page);
    face.expect("size 0, map create", face.call(BPF_MAP_CREATE, attr, 0));
    face.expect("size 0 and no address", face.call(BPF_MAP_CREATE, nullptr, 0));
    face.expect("size 0, lookup of descriptor 0", face.call(BPF_MAP_LOOKUP_ELEM, attr, 0));
    face.expect("4096 zeros", face.call(BPF_MAP_CREATE, attr, 4096));
    face.expect("4097 zeros", face.call(BPF_MAP_CREATE, attr, 4097));
    face.expect("too large and unreadable", face.call(BPF_MAP_CREATE, nullptr, 4097));
    page[sizeof(bpf_attr)] = 1;
    face.expect("a byte behind the attr", face.call(BPF_MAP_CREATE, attr, sizeof(bpf_attr) + 1));
    face.expect("the same with an unknown command", face.call(4711, attr, sizeof(bpf_attr) + 1));
    page[sizeof(bpf_attr)] = 0;
    page[4095] = 1;
    face.expect("the last byte of a page", face.call(BPF_MAP_CREATE, attr, 4096));
  });
}

TEST_F(BpfTest, BadAddresses) {
  compare([](Face& face) {
    for (const int cmd : {0, 1, 5, 15, 37, 38, -1, 1 << 20}) {
      const std::string name = "command " + std::to_string(cmd);
      face.expect(name + " at null", face.call(cmd, nullptr, 16));
      face.expect(name + " at 1", face.call(cmd, at(1), 16));
      face.expect(name + " in the kernel", face.call(cmd, at(0xffff888000000000), 16));
      face.expect(name + " not canonical", face.call(cmd, at(uint64_t{1} << 60), 16));
      face.expect(name + " at the end of user space", face.call(cmd, at((uint64_t{1} << 47) - 4096 - 8), 16));
    }
  });
}

TEST_F(BpfTest, UnknownCommands) {
  compare([](Face& face) {
    for (const int cmd : {39, 100, -1, INT32_MIN, INT32_MAX}) face.expect("command", face.call(cmd, no_attr()));
  });
}

// Every byte of the attr in turn, for every command: what lies behind the last field of a command must be zero.
TEST_F(BpfTest, BytesBehindTheLastField) {
  compare([](Face& face) {
    struct Case {
      int cmd;
      size_t first;
    };
    for (const Case& one : {Case{BPF_MAP_CREATE, 80},
                            Case{BPF_MAP_LOOKUP_ELEM, 32},
                            Case{BPF_MAP_UPDATE_ELEM, 32},
                            Case{BPF_MAP_DELETE_ELEM, 16},
                            Case{BPF_MAP_GET_NEXT_KEY, 24},
                            Case{BPF_OBJ_PIN, 20},
                            Case{BPF_OBJ_GET, 20},
                            Case{BPF_PROG_GET_NEXT_ID, 8},
                            Case{BPF_MAP_GET_NEXT_ID, 8},
                            Case{BPF_BTF_GET_NEXT_ID, 8},
                            Case{BPF_LINK_GET_NEXT_ID, 8},
                            Case{BPF_PROG_GET_FD_BY_ID, 4},
                            Case{BPF_MAP_GET_FD_BY_ID, 12},
                            Case{BPF_BTF_GET_FD_BY_ID, 16},
                            Case{BPF_LINK_GET_FD_BY_ID, 4},
                            Case{BPF_OBJ_GET_INFO_BY_FD, 16},
                            Case{BPF_MAP_LOOKUP_AND_DELETE_ELEM, 32},
                            Case{BPF_MAP_FREEZE, 4},
                            Case{BPF_MAP_LOOKUP_BATCH, 56},
                            Case{BPF_MAP_LOOKUP_AND_DELETE_BATCH, 56},
                            Case{BPF_MAP_UPDATE_BATCH, 56},
                            Case{BPF_MAP_DELETE_BATCH, 56},
                            Case{BPF_ENABLE_STATS, 4},
                            Case{BPF_PROG_BIND_MAP, 12},
                            Case{BPF_BTF_LOAD, 40},
                            Case{BPF_PROG_TEST_RUN, 80}}) {
      for (size_t i = one.first; i < sizeof(bpf_attr); ++i) {
        bpf_attr attr = no_attr();
        reinterpret_cast<unsigned char*>(&attr)[i] = 1;
        face.expect("command " + std::to_string(one.cmd) + " byte " + std::to_string(i), face.call(one.cmd, attr));
      }
    }
  });
}

TEST_F(BpfTest, TheTailIsCheckedBeforeTheDescriptor) {
  compare([](Face& face) {
    for (const int fd : {-1, 12345, 0}) {
      uint64_t key = 0, value = 0;
      bpf_attr attr = element_attr(fd, &key, &value);
      face.expect("delete with a value", face.call(BPF_MAP_DELETE_ELEM, attr));
      attr.flags = 8;
      face.expect("next key with flags", face.call(BPF_MAP_GET_NEXT_KEY, attr));
      face.expect("freeze with a key", face.call(BPF_MAP_FREEZE, attr));
    }
  });
}

// Half of the attr is readable: a size that ends there works, one byte more is EFAULT.
TEST_F(BpfTest, TheAttrAtTheEndOfAMapping) {
  compare([](Face& face) {
    auto* pages =
        static_cast<unsigned char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(pages, MAP_FAILED);
    ::mprotect(pages + 4096, 4096, PROT_NONE);
    const bpf_attr attr = map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1);
    auto* there = reinterpret_cast<bpf_attr*>(pages + 4096 - 24);
    std::memcpy(pages + 4096 - 24, &attr, 24);
    const int fd = face.call(BPF_MAP_CREATE, there, 24);
    face.expect("24 bytes", fd);
    ::close(fd);
    face.expect("25 bytes", face.call(BPF_MAP_CREATE, there, 25));
    ::munmap(pages, 8192);
  });
}

TEST(SkepBpfTest, SaysWhyItCannotStart) {
  const TestDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  ::setenv("SKEP_DIR", directory.path().c_str(), 1);
  EXPECT_EQ(default_process(), nullptr);
  EXPECT_NE(std::string(last_error_sentence()).find("open to other users"), std::string::npos);
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
  EXPECT_NE(default_process(), nullptr) << last_error_sentence();
}

}  // namespace
}  // namespace skep
