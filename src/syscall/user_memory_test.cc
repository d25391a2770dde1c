// SPDX-License-Identifier: Apache-2.0
#include "syscall/user_memory.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "machine/thread_state.h"

namespace skep {
namespace {

constexpr size_t kPage = 4096;

class UserMemoryTest : public testing::Test {
 protected:
  void SetUp() override { install_user_fault_handlers(); }
};

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// Two pages, of which the second cannot be touched.
class GuardedPages {
 public:
  explicit GuardedPages(int protection = PROT_READ | PROT_WRITE)
      : pages_(static_cast<char*>(
            ::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    for (size_t i = 0; i < kPage; ++i) pages_[i] = static_cast<char>(i * 7 + 1);
    ::mprotect(pages_, kPage, protection);
    ::mprotect(pages_ + kPage, kPage, PROT_NONE);
  }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;
  ~GuardedPages() { ::munmap(pages_, 2 * kPage); }
  [[nodiscard]] char* end() const { return pages_ + kPage; }

 private:
  char* pages_;
};

TEST_F(UserMemoryTest, CopiesEverySizeUpToTheLastByte) {
  const GuardedPages pages;
  for (size_t size = 0; size <= 1100; ++size) {
    std::vector<char> copy(size + 16, 'x');
    ASSERT_TRUE(read_user(copy.data(), address_of(pages.end() - size), size));
    ASSERT_EQ(std::memcmp(copy.data(), pages.end() - size, size), 0) << size;
    ASSERT_EQ(copy[size], 'x') << size;
    std::vector<char> source(size, static_cast<char>(size));
    ASSERT_TRUE(write_user(address_of(pages.end() - size), source.data(), size));
    if (size == 0) continue;  // an empty vector has no address to compare at
    ASSERT_EQ(std::memcmp(source.data(), pages.end() - size, size), 0) << size;
  }
}

TEST_F(UserMemoryTest, AFaultAnywhereIsReported) {
  const GuardedPages pages;
  std::vector<char> buffer(2 * kPage);
  for (size_t size = 1; size <= 1100; size += 3)
    for (const size_t missing : {size_t{1}, size / 2 + 1, size}) {
      const uint64_t from = address_of(pages.end()) - (size - std::min(missing, size));
      ASSERT_FALSE(read_user(buffer.data(), from, size)) << size << " " << missing;
      ASSERT_FALSE(write_user(from, buffer.data(), size)) << size << " " << missing;
    }
}

TEST_F(UserMemoryTest, MovesOfFixedSizesCopyAndReportFaults) {
  const GuardedPages pages;
  for (size_t size = 0; size <= 40; ++size) {
    const uint64_t last = address_of(pages.end() - size);
    std::vector<char> copy(size + 16, 'x');
    ASSERT_TRUE(read_user_inline(copy.data(), last, size)) << size;
    ASSERT_EQ(std::memcmp(copy.data(), pages.end() - size, size), 0) << size;
    ASSERT_EQ(copy[size], 'x') << size;
    const std::vector<char> source(size + 1, static_cast<char>(size + 1));
    ASSERT_TRUE(write_user_inline(last, source.data(), size)) << size;
    ASSERT_EQ(std::memcmp(source.data(), pages.end() - size, size), 0) << size;
    for (size_t missing = 1; missing <= size; ++missing) {
      ASSERT_FALSE(read_user_inline(copy.data(), last + missing, size)) << size << " " << missing;
      ASSERT_FALSE(write_user_inline(last + missing, source.data(), size)) << size << " " << missing;
    }
    ASSERT_EQ(read_user_inline(copy.data(), 8, size), size == 0);
    ASSERT_EQ(write_user_inline(uint64_t{1} << 47, source.data(), size), size == 0);
  }
}

TEST_F(UserMemoryTest, ZerosAreSeenAndAFaultBehindOthersToo) {
  const GuardedPages pages;
  for (size_t size = 0; size <= 150; ++size) {
    std::memset(pages.end() - size, 0, size);
    const uint64_t last = address_of(pages.end() - size);
    ASSERT_EQ(user_zeros(last, size), UserZeros::kYes) << size;
    for (size_t i = 0; i < size; ++i) {
      pages.end()[static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(size)] = 64;
      ASSERT_EQ(user_zeros(last, size), UserZeros::kNo) << size << " " << i;
      ASSERT_EQ(user_zeros(last, size + 1), UserZeros::kFault) << size << " " << i;
      pages.end()[static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(size)] = 0;
    }
  }
  EXPECT_EQ(user_zeros(8, 8), UserZeros::kFault);
}

TEST_F(UserMemoryTest, ReadOnlyMemoryCanBeReadOnly) {
  const GuardedPages pages(PROT_READ);
  char byte = 0;
  EXPECT_TRUE(read_user(&byte, address_of(pages.end() - 1), 1));
  EXPECT_FALSE(write_user(address_of(pages.end() - 1), &byte, 1));
}

TEST_F(UserMemoryTest, ImpossibleAddressesAreRefused) {
  char bytes[16] = {};
  for (const uint64_t address : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{1} << 47, uint64_t{1} << 62,
                                 uint64_t{0xffff888000000000}, UINT64_MAX, UINT64_MAX - 15}) {
    EXPECT_FALSE(read_user(bytes, address, 16)) << address;
    EXPECT_FALSE(write_user(address, bytes, 16)) << address;
    EXPECT_TRUE(read_user(bytes, address, 0)) << address;
  }
  EXPECT_FALSE(read_user(bytes, address_of(bytes), SIZE_MAX));
}

TEST_F(UserMemoryTest, BytesBeyondTheEndOfAFileAreAFault) {
  char name[] = "/dev/shm/skep-test-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  ::unlink(name);
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(page, MAP_FAILED);
  char byte = 0;
  EXPECT_FALSE(read_user(&byte, address_of(page), 1));
  EXPECT_FALSE(write_user(address_of(page), &byte, 1));
  ASSERT_EQ(::ftruncate(fd, kPage), 0);
  EXPECT_TRUE(read_user(&byte, address_of(page), 1));
  ::munmap(page, kPage);
  ::close(fd);
}

TEST_F(UserMemoryTest, Strings) {
  const GuardedPages pages;
  std::memcpy(pages.end() - 6, "hello", 6);
  char text[16];
  EXPECT_EQ(read_user_string(text, address_of(pages.end() - 6), sizeof text), 5);
  EXPECT_STREQ(text, "hello");
  EXPECT_EQ(read_user_string(text, address_of(pages.end() - 1), sizeof text), 0);
  EXPECT_EQ(read_user_string(text, address_of(pages.end() - 6), 5), -2);
  pages.end()[-1] = '!';
  EXPECT_EQ(read_user_string(text, address_of(pages.end() - 6), sizeof text), -1);
  EXPECT_EQ(read_user_string(text, 0, sizeof text), -1);
}

TEST_F(UserMemoryTest, ThreadsFaultAtTheSameTime) {
  const GuardedPages pages;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      char bytes[64];
      for (int i = 0; i < 500; ++i) {
        ASSERT_FALSE(read_user_inline(bytes, address_of(pages.end() - 8), 16));
        ASSERT_TRUE(read_user_inline(bytes, address_of(pages.end() - 16), 16));
        ASSERT_FALSE(read_user(bytes, address_of(pages.end() - 32), 64));
        ASSERT_TRUE(read_user(bytes, address_of(pages.end() - 64), 64));
      }
    });
}

// The signal mask must be what it was: a second fault in the same thread would kill the process otherwise.
TEST_F(UserMemoryTest, FaultsCanRepeat) {
  sigset_t before, after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  char byte;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(read_user(&byte, 4096, 1));
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(::sigismember(&before, SIGSEGV), ::sigismember(&after, SIGSEGV));
}

TEST_F(UserMemoryTest, FaultsInASignalHandlerOnItsOwnStack) {
#if defined(SKEP_THREAD_SANITIZER)
  GTEST_SKIP() << "ThreadSanitizer does not survive a fault within a handler";
#endif
  static std::atomic<int> wrong;
  wrong = 0;
  std::thread([] {
    std::vector<char> memory(1 << 16);
    stack_t own{}, none{};
    own.ss_sp = memory.data();
    own.ss_size = memory.size();
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&own, nullptr);
    struct sigaction action {
    }, before{};
    action.sa_flags = SA_ONSTACK;
    action.sa_handler = [](int) {
      const GuardedPages pages;
      char bytes[600];
      for (size_t size = 1; size <= sizeof bytes; ++size) {
        wrong += read_user_inline(bytes, address_of(pages.end()) - size / 2, size);
        wrong += !read_user_inline(bytes, address_of(pages.end()) - size, size);
      }
    };
    ::sigaction(SIGUSR1, &action, &before);
    const int saved_errno = errno;
    ::raise(SIGUSR1);
    EXPECT_EQ(errno, saved_errno);
    ::sigaction(SIGUSR1, &before, nullptr);
    ::sigaltstack(&none, nullptr);
  }).join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace skep
