// SPDX-License-Identifier: Apache-2.0
// Objects by id and descriptor, information, mappings and freezing, compared with the kernel's.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "syscall/fdinfo.h"
#include "syscall/two_faces.h"

namespace skep {
namespace {

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kArray = BPF_MAP_TYPE_ARRAY;

class ObjectCommandsTest : public TwoFaces {
 protected:
  std::string fdinfo(Face& face, int fd) {
    if (!face.is_kernel()) return fdinfo_text(*process_, fd);
    std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
};

uint32_t id_of(Face& face, int fd) {
  bpf_map_info info;
  std::memset(&info, 0, sizeof info);
  bpf_attr attr = no_attr();
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  face.expect("info", face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
  return info.id;
}

TEST_F(ObjectCommandsTest, InfoSizes) {
  compare([](Face& face) {
    bpf_attr create = map_attr(kHash, 4, 8, 16, BPF_F_NO_PREALLOC);
    std::memcpy(create.map_name, "named", 6);
    const int map = face.call(BPF_MAP_CREATE, create);
    for (const uint32_t length : {0U, 1U, 4U, 40U, 99U, 100U, 101U, 103U, 104U, 105U, 200U, 4096U, 4097U}) {
      unsigned char info[8192] = {};
      bpf_attr attr = no_attr();
      attr.info.bpf_fd = static_cast<uint32_t>(map);
      attr.info.info_len = length;
      attr.info.info = reinterpret_cast<uint64_t>(info);
      const std::string what = "length " + std::to_string(length);
      face.expect(what, face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
      face.note(what + " written back", attr.info.info_len);
      std::memset(info + 4, 0, 4);  // the id
      face.note(what + " content", std::string(reinterpret_cast<char*>(info), 104));
      if (length > 0 && length <= sizeof info) {
        std::memset(info, 0, sizeof info);
        info[length - 1] = 1;
        attr.info.info_len = length;
        face.expect(what + " last byte set", face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
      }
      attr.info.info_len = length;
      attr.info.info = 0;
      face.expect(what + " at null", face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
    }
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(-1);
    face.expect("no descriptor", face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    attr.info.bpf_fd = static_cast<uint32_t>(null);
    face.expect("not an object", face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
    ::close(null);
    ::close(map);
  });
}

TEST_F(ObjectCommandsTest, HashOfAFrozenArray) {
  compare([](Face& face) {
    for (const uint32_t type : {kArray, kHash}) {
      const int map = face.call(BPF_MAP_CREATE, map_attr(type, 4, 5, 3));
      for (uint32_t key = 0; key < 3; ++key)
        face.expect("update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, "value")));
      const auto hash = [&](const char* what, uint32_t size, bool null) {
        unsigned char digest[64] = {};
        bpf_map_info info;
        std::memset(&info, 0, sizeof info);
        info.hash = null ? 0 : reinterpret_cast<uint64_t>(digest);
        info.hash_size = size;
        bpf_attr attr = no_attr();
        attr.info.bpf_fd = static_cast<uint32_t>(map);
        attr.info.info_len = sizeof info;
        attr.info.info = reinterpret_cast<uint64_t>(&info);
        face.expect(what, face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
        face.note("digest", std::string(reinterpret_cast<char*>(digest), sizeof digest));
      };
      for (const bool frozen : {false, true}) {
        face.note("frozen", frozen);
        hash("hash", 32, false);
        hash("size 31", 31, false);
        hash("size 0", 0, false);
        hash("no buffer", 32, true);
        bpf_attr freeze = no_attr();
        freeze.map_fd = static_cast<uint32_t>(map);
        face.expect("freeze", face.call(BPF_MAP_FREEZE, freeze));
      }
      ::close(map);
    }
  });
}

TEST_F(ObjectCommandsTest, ByIdAndNextId) {
  compare([](Face& face) {
    const int first = face.call(BPF_MAP_CREATE, map_attr(kHash, 4, 4, 1));
    const int second = face.call(BPF_MAP_CREATE, map_attr(kArray, 4, 4, 1));
    const uint32_t id = id_of(face, first);
    bpf_attr attr = no_attr();
    attr.start_id = id;
    face.expect("next", face.call(BPF_MAP_GET_NEXT_ID, &attr, sizeof attr));
    face.note("is the second or between", attr.next_id > id && attr.next_id <= id_of(face, second));
    for (const int cmd : {BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_BTF_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID})
      for (const uint32_t start : {0x7ffffffeU, 0x7fffffffU, 0x80000000U, 0xffffffffU}) {
        attr = no_attr();
        attr.start_id = start;
        face.expect("start " + std::to_string(start), face.call(cmd, attr));
      }
    for (const int cmd : {BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_BTF_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID})
      for (const uint32_t missing : {0U, 0x7ffffff0U, 0xffffffffU}) {
        attr = no_attr();
        attr.map_id = missing;
        face.expect("missing id", face.call(cmd, attr));
      }
    for (uint32_t bit = 0; bit < 32; ++bit) {
      attr = no_attr();
      attr.map_id = id;
      attr.open_flags = 1U << bit;
      const int fd = face.call(BPF_MAP_GET_FD_BY_ID, attr);
      face.expect("open flag " + std::to_string(bit), fd);
      if (fd >= 0) face.note("mode", ::fcntl(fd, F_GETFL) & O_ACCMODE);
      if (fd >= 0) ::close(fd);
    }
    attr.open_flags = BPF_F_RDONLY | BPF_F_WRONLY;
    face.expect("both", face.call(BPF_MAP_GET_FD_BY_ID, attr));
    ::close(first);
    ::close(second);
    if (!face.is_kernel()) {  // the kernel frees it a moment later
      attr = no_attr();
      attr.map_id = id;
      EXPECT_EQ(face.call(BPF_MAP_GET_FD_BY_ID, attr), -ENOENT);
    }
  });
}

TEST_F(ObjectCommandsTest, FreezeAndMappings) {
  compare([](Face& face) {
    const int map = face.call(BPF_MAP_CREATE, map_attr(kArray, 4, 8, 512, BPF_F_MMAPABLE));
    bpf_attr freeze = no_attr();
    freeze.map_fd = static_cast<uint32_t>(map);
    auto* window = static_cast<uint64_t*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0));
    ASSERT_NE(window, MAP_FAILED);
    window[3] = 42;
    const uint32_t key = 3;
    uint64_t value = 0;
    face.expect("lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &value)));
    face.note("what was written through the mapping", static_cast<int64_t>(value));
    face.expect("while mapped", face.call(BPF_MAP_FREEZE, freeze));
    ::mprotect(window, 4096, PROT_READ);
    face.expect("while mapped, now read only", face.call(BPF_MAP_FREEZE, freeze));
    ::munmap(window, 4096);
    face.expect("unmapped", face.call(BPF_MAP_FREEZE, freeze));
    face.expect("again", face.call(BPF_MAP_FREEZE, freeze));
    ::close(map);
  });
}

TEST_F(ObjectCommandsTest, EnableStats) {
  compare([](Face& face) {
    for (const uint32_t type : {0U, 1U, 0xffffffffU}) {
      bpf_attr attr = no_attr();
      attr.enable_stats.type = type;
      const int fd = face.call(BPF_ENABLE_STATS, attr);
      face.expect("type", fd);
      if (fd >= 0) face.note("close on exec", ::fcntl(fd, F_GETFD));
      if (fd >= 0) ::close(fd);
    }
  });
}

TEST_F(ObjectCommandsTest, Fdinfo) {
  compare([this](Face& face) {
    for (const uint32_t flags : {0U, uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY_PROG}}) {
      const int map = face.call(BPF_MAP_CREATE, map_attr(kArray, 4, 6, 10, flags));
      bpf_attr freeze = no_attr();
      freeze.map_fd = static_cast<uint32_t>(map);
      if (flags == BPF_F_WRONLY_PROG) face.expect("freeze", face.call(BPF_MAP_FREEZE, freeze));
      std::stringstream text(fdinfo(face, map));
      for (std::string line; std::getline(text, line);) {
        const std::string name = line.substr(0, line.find('\t'));
        const bool differs = name == "mnt_id:" || name == "ino:" || name == "memlock:" || name == "map_id:";
        face.note("line", differs ? name : line);
      }
      ::close(map);
    }
  });
}

TEST_F(ObjectCommandsTest, PinErrorsBeforeThePathIsWalked) {
  compare([](Face& face) {
    const int map = face.call(BPF_MAP_CREATE, map_attr(kArray, 4, 4, 1));
    const auto pin = [&](const char* what, int cmd, int fd, const void* path, uint32_t flags, int path_fd) {
      bpf_attr attr = no_attr();
      attr.pathname = reinterpret_cast<uint64_t>(path);
      attr.bpf_fd = static_cast<uint32_t>(fd);
      attr.file_flags = flags;
      attr.path_fd = path_fd;
      face.expect(std::string(what) + " command " + std::to_string(cmd), face.call(cmd, attr));
    };
    for (const int cmd : {BPF_OBJ_PIN, BPF_OBJ_GET}) {
      const int fd = cmd == BPF_OBJ_PIN ? map : 0;
      pin("null path", cmd, fd, nullptr, 0, 0);
      pin("bad path", cmd, fd, reinterpret_cast<void*>(uintptr_t{8}), 0, 0);
      pin("empty path", cmd, fd, "", 0, 0);
      pin("missing directory", cmd, fd, "/nonexistent/dir/x", 0, 0);
      pin("not a directory", cmd, fd, "/dev/null/x", 0, 0);
      pin("another file system", cmd, fd, "/dev/shm/not-there", 0, 0);
      pin("another file system, exists", cmd, fd, "/dev/null", 0, 0);
      pin("path_fd without flag", cmd, fd, "/dev/shm/x", 0, 3);
      pin("bad path_fd", cmd, fd, "x", BPF_F_PATH_FD, 4711);
      pin("path_fd is no directory", cmd, fd, "x", BPF_F_PATH_FD, map);
      for (uint32_t bit = 0; bit < 32; ++bit)
        if (bit != 14) pin("flag", cmd, fd, "/nonexistent/x", 1U << bit, 0);
      pin("both", cmd, fd, "/nonexistent/x", BPF_F_RDONLY | BPF_F_WRONLY, 0);
      pin("a descriptor", cmd, fd == 0 ? 1 : -1, "/nonexistent/x", 0, 0);
      pin("no object", cmd, 1, "/nonexistent/x", 0, 0);
    }
    ::close(map);
  });
}

}  // namespace
}  // namespace skep
