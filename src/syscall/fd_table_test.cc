// SPDX-License-Identifier: Apache-2.0
#include "syscall/fd_table.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "machine/reader_section.h"
#include "syscall/two_faces.h"

namespace skep {
namespace {

class FdTableTest : public TwoFaces {
 protected:
  int call(int cmd, bpf_attr attr) { return bpf(*process_, cmd, &attr, sizeof attr); }
  int make_map(uint32_t flags = 0) { return call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_HASH, 4, 8, 16, flags)); }
  uint32_t id_of(int fd) {
    const auto object = process_->descriptors.share(fd);
    return object ? (*object)->id : 0;
  }
  int open_id(uint32_t id) {
    bpf_attr attr = no_attr();
    attr.map_id = id;
    return call(BPF_MAP_GET_FD_BY_ID, attr);
  }
  int put(int fd, uint32_t key, uint64_t value) { return call(BPF_MAP_UPDATE_ELEM, element_attr(fd, &key, &value)); }
  /// The value, or a negative errno.
  int64_t get(int fd, uint32_t key) {
    uint64_t value = 0;
    const int error = call(BPF_MAP_LOOKUP_ELEM, element_attr(fd, &key, &value));
    return error < 0 ? error : static_cast<int64_t>(value);
  }
  /// What the preload library makes of close(2).
  void reported_close(int fd) {
    const FdTable::Closing closing(&process_->descriptors, static_cast<unsigned>(fd), static_cast<unsigned>(fd));
    ::close(fd);
  }
};

TEST_F(FdTableTest, AClosedDescriptorIsForgottenWithoutBeingTold) {
  const int fd = make_map();
  ASSERT_EQ(put(fd, 1, 10), 0);
  const uint32_t id = id_of(fd);
  ::close(fd);
  EXPECT_EQ(get(fd, 1), -EBADF);
  EXPECT_EQ(open_id(id), -ENOENT);
}

TEST_F(FdTableTest, ANumberThatIsUsedAgainNamesTheNewObject) {
  const int first = make_map();
  ASSERT_EQ(put(first, 1, 10), 0);
  ::close(first);
  const int second = make_map();
  ASSERT_EQ(second, first);
  EXPECT_EQ(get(second, 1), -ENOENT);
  ::close(second);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_EQ(null, first);
  EXPECT_EQ(get(null, 1), -EINVAL);
  ::close(null);
}

TEST_F(FdTableTest, TheModeBelongsToTheDescriptor) {
  const int fd = make_map();
  ASSERT_EQ(put(fd, 1, 10), 0);
  bpf_attr attr = no_attr();
  attr.map_id = id_of(fd);
  attr.open_flags = BPF_F_RDONLY;
  const int reader = call(BPF_MAP_GET_FD_BY_ID, attr);
  attr.open_flags = BPF_F_WRONLY;
  const int writer = call(BPF_MAP_GET_FD_BY_ID, attr);
  EXPECT_EQ(get(reader, 1), 10);
  EXPECT_EQ(put(reader, 1, 11), -EPERM);
  EXPECT_EQ(get(writer, 1), -EPERM);
  EXPECT_EQ(put(writer, 1, 11), 0);
  EXPECT_EQ(get(reader, 1), 11);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), MAP_FAILED);
  // The same number with another mode of the same map.
  ASSERT_EQ(::dup2(writer, reader), reader);
  EXPECT_EQ(get(reader, 1), -EPERM);
  for (const int one : {fd, reader, writer}) ::close(one);
}

TEST_F(FdTableTest, DescriptorsOfOneMapShareItsMapping) {
  const int fd = make_map();
  const int duplicate = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  const int other = open_id(id_of(fd));
  const auto map = (*process_->descriptors.share(fd))->map;
  EXPECT_EQ((*process_->descriptors.share(duplicate))->map, map);
  EXPECT_EQ((*process_->descriptors.share(other))->map, map);
  EXPECT_EQ(process_->descriptors.map_by_id(id_of(fd)).value(), map);
  for (const int one : {fd, duplicate, other}) ::close(one);
}

TEST_F(FdTableTest, HighNumbersWorkToo) {
  const int fd = make_map();
  ASSERT_EQ(put(fd, 1, 10), 0);
  for (const int number : {1000, 1023, 1024, 5000}) {
    const int high = ::fcntl(fd, F_DUPFD_CLOEXEC, number);
    if (high < 0) continue;  // beyond the limit of this process
    EXPECT_EQ(get(high, 1), 10) << high;
    ::close(high);
    EXPECT_EQ(get(high, 1), -EBADF) << high;
  }
  ::close(fd);
}

TEST_F(FdTableTest, TrustedDescriptorsAreForgottenWhenTheirCloseIsReported) {
  process_->descriptors.trust();
  const int fd = make_map();
  const int duplicate = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  ASSERT_EQ(put(fd, 1, 10), 0);
  const uint32_t id = id_of(fd);
  reported_close(fd);
  EXPECT_EQ(get(fd, 1), -EBADF);
  EXPECT_EQ(get(duplicate, 1), 10);
  EXPECT_TRUE(exists(*process_->instance, "bpf-map/" + std::to_string(id)));
  reported_close(duplicate);
  EXPECT_FALSE(exists(*process_->instance, "bpf-map/" + std::to_string(id)));
  EXPECT_EQ(open_id(id), -ENOENT);
}

TEST_F(FdTableTest, RangesOfTrustedDescriptors) {
  process_->descriptors.trust();
  int fds[5];
  for (int& fd : fds) {
    fd = make_map();
    ASSERT_EQ(put(fd, 1, 10), 0);
  }
  const auto first = static_cast<unsigned>(fds[1]);
  const auto last = static_cast<unsigned>(fds[3]);
  {
    const FdTable::Closing closing(&process_->descriptors, first, last);
    for (unsigned fd = first; fd <= last; ++fd) ::close(static_cast<int>(fd));
    EXPECT_EQ(get(fds[0], 1), 10);
  }
  EXPECT_EQ(get(fds[0], 1), 10);
  EXPECT_EQ(get(fds[2], 1), -EBADF);
  EXPECT_EQ(get(fds[4], 1), 10);
  {
    const FdTable::Closing closing(&process_->descriptors, static_cast<unsigned>(fds[0]), ~0U);
    ::close(fds[0]);
    ::close(fds[4]);
  }
  EXPECT_EQ(get(fds[4], 1), -EBADF);
}

// While a descriptor is closed another thread may still use the number, and may already use it for something else.
TEST_F(FdTableTest, WhileACloseIsUnderWayNothingIsRemembered) {
  process_->descriptors.trust();
  const int fd = make_map();
  ASSERT_EQ(put(fd, 1, 10), 0);
  const auto number = static_cast<unsigned>(fd);
  auto closing = std::make_optional<FdTable::Closing>(&process_->descriptors, number, number);
  EXPECT_EQ(get(fd, 1), 10);
  ::close(fd);
  EXPECT_EQ(get(fd, 1), -EBADF);
  const int next = make_map();
  ASSERT_EQ(next, fd);
  EXPECT_EQ(get(next, 1), -ENOENT);
  closing.reset();
  EXPECT_EQ(get(next, 1), -ENOENT);
  EXPECT_EQ(put(next, 1, 11), 0);
  reported_close(next);
}

size_t lines_of(const char* path) {
  std::ifstream file(path);
  return static_cast<size_t>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
}

// Mappings and files of maps that are gone do not pile up, whether or not their closes are reported.
TEST_F(FdTableTest, ManyMapsOneAfterTheOtherLeaveNothingBehind) {
  for (const bool trusted : {false, true}) {
    if (trusted) process_->descriptors.trust();
    size_t mappings = 0;
    for (int i = 0; i < 200; ++i) {
      const int fd = make_map();
      ASSERT_EQ(put(fd, 1, 1), 0);
      if (trusted)
        reported_close(fd);
      else
        ::close(fd);
      if (i == 20) mappings = lines_of("/proc/self/maps");
    }
    EXPECT_LE(lines_of("/proc/self/maps"), mappings + 10);
    const std::filesystem::directory_iterator files(directory_.path() + "/bpf-map");
    EXPECT_LE(std::distance(begin(files), end(files)), 2);
  }
}

// Somebody overwrites files of the instance while they are referenced: they are refused with a sentence, and not mapped
// past their end.
TEST_F(FdTableTest, FilesThatWereTamperedWithAreRefused) {
  const auto error_after = [&](const std::function<void(int)>& tamper) {
    const int fd = make_map();
    const uint32_t id = id_of(fd);
    const Process other(process_->instance);  // has not mapped it yet
    tamper(fd);
    bpf_attr attr = no_attr();
    attr.map_id = id;
    const int result = bpf(const_cast<Process&>(other), BPF_MAP_GET_FD_BY_ID, &attr, sizeof attr);
    if (result >= 0) ::close(result);
    ::close(fd);
    return result;
  };
  const auto overwrite = [](int fd, size_t offset, const void* with, size_t size) {
    ASSERT_EQ(::pwrite(fd, with, size, static_cast<off_t>(kHeaderOffset + offset)), static_cast<ssize_t>(size));
  };
  EXPECT_GE(error_after([](int) {}), 0);
  EXPECT_EQ(error_after([](int fd) { ASSERT_EQ(::ftruncate(fd, kHeaderOffset + 4096), 0); }), -EINVAL);
  EXPECT_NE(std::string(last_error_sentence()).find("truncated"), std::string::npos) << last_error_sentence();
  EXPECT_EQ(error_after([](int fd) { ASSERT_EQ(::ftruncate(fd, 100), 0); }), -EINVAL);
  EXPECT_EQ(error_after([&](int fd) { overwrite(fd, 0, "notskep", 7); }), -EINVAL);
  const uint32_t other_version = kLayoutVersion + 1;
  EXPECT_EQ(error_after([&](int fd) { overwrite(fd, offsetof(FileHeader, layout_version), &other_version, 4); }),
            -EINVAL);
  EXPECT_NE(std::string(last_error_sentence()).find("layout version"), std::string::npos) << last_error_sentence();
  const uint32_t other_id = 4711;
  EXPECT_EQ(error_after([&](int fd) { overwrite(fd, offsetof(FileHeader, id), &other_id, 4); }), -EINVAL);
}

// Every map holds its own number under key 0. Readers go through one descriptor number that is all the time closed and
// given to the next map: whatever they see must be a map that had the number, whole, and never one that is gone.
TEST_F(FdTableTest, ReadersRaceWithCloseAndReopen) {
  for (const bool trusted : {false, true}) {
    if (trusted) process_->descriptors.trust();
    const int slot = make_map();
    ASSERT_EQ(put(slot, 0, 0), 0);
    std::atomic<uint64_t> oldest{0}, newest{0};
    std::atomic<bool> stop{false};
    std::vector<std::jthread> readers;
    for (int t = 0; t < 3; ++t)
      readers.emplace_back([&] {
        while (!stop.load(std::memory_order_relaxed)) {
          const uint64_t floor = oldest.load();
          const int64_t seen = get(slot, 0);
          const uint64_t ceiling = newest.load();
          if (seen == -EBADF || seen == -EINVAL || seen == -ENOENT) continue;  // between two maps
          ASSERT_GE(seen, 0);
          ASSERT_GE(static_cast<uint64_t>(seen), floor);
          ASSERT_LE(static_cast<uint64_t>(seen), ceiling);
        }
      });
    for (uint64_t i = 1; i <= 400; ++i) {
      const int next = make_map();
      ASSERT_EQ(put(next, 0, i), 0);
      newest = i;
      std::optional<FdTable::Closing> closing;
      if (trusted) closing.emplace(&process_->descriptors, static_cast<unsigned>(slot), static_cast<unsigned>(slot));
      ASSERT_EQ(::dup2(next, slot), slot);
      closing.reset();
      oldest = i;
      if (trusted)
        reported_close(next);
      else
        ::close(next);
    }
    stop = true;
    readers.clear();
    EXPECT_EQ(get(slot, 0), 400);
    if (trusted)
      reported_close(slot);
    else
      ::close(slot);
  }
}

}  // namespace
}  // namespace skep
