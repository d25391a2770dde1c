// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

class RingBufferFaceTest : public testing::InstanceTest {
 protected:
  RingBuffer make(uint32_t bytes = 4096) {
    auto ring = RingBuffer::create(instance(), {.name = "events", .max_entries = bytes});
    EXPECT_TRUE(ring) << ring.error().message;
    return std::move(*ring);
  }
  static uint64_t number_in(std::span<const std::byte> record) {
    EXPECT_EQ(record.size(), sizeof(uint64_t));
    return detail::from_bytes<uint64_t>(record.data());
  }
};

TEST_F(RingBufferFaceTest, RecordsComeInOrder) {
  auto ring = make();
  auto first = ring.reserve(8);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->size(), 8U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first->data()) % 8, 0U);
  ASSERT_TRUE(ring.output(uint64_t{2}));
  std::vector<uint64_t> seen;
  const auto note = [&](std::span<const std::byte> record) { seen.push_back(number_in(record)); };
  EXPECT_EQ(*ring.consume(note), 0U) << "the first is not submitted";
  EXPECT_FALSE(*ring.wait(0));
  const uint64_t one = 1;
  std::memcpy(first->data(), &one, 8);
  first->submit();
  EXPECT_TRUE(*ring.wait(0));
  ASSERT_TRUE(ring.output(uint64_t{3}));
  EXPECT_EQ(*ring.consume(note, 2), 2U);
  EXPECT_EQ(*ring.consume(note), 1U);
  EXPECT_EQ(seen, (std::vector<uint64_t>{1, 2, 3}));
}

TEST_F(RingBufferFaceTest, WhatIsNotSubmittedIsDiscarded) {
  auto ring = make();
  { auto record = ring.reserve(100); }
  ASSERT_TRUE(ring.output(uint64_t{5}));
  uint64_t records = 0;
  EXPECT_EQ(*ring.consume([&](std::span<const std::byte> record) { records += number_in(record); }), 1U);
  EXPECT_EQ(records, 5U);
}

TEST_F(RingBufferFaceTest, LimitsAndOtherMaps) {
  auto ring = make();
  EXPECT_EQ(ring.reserve(8192).error().code, EAGAIN);
  uint64_t written = 0;
  while (ring.output(written)) ++written;
  EXPECT_GT(written, 200U);
  EXPECT_EQ(*ring.consume([](std::span<const std::byte>) {}), written);
  EXPECT_TRUE(ring.output(written));
  EXPECT_EQ(ring.output(written, 64).error().code, EINVAL);
  EXPECT_EQ(RingBuffer::create(instance(), {.max_entries = 1000}).error().code, EINVAL);
  auto queue = Queue<uint64_t>::create(instance(), {.max_entries = 1});
  ASSERT_TRUE(queue);
  EXPECT_FALSE(RingBuffer::open_id(instance(), queue->id()));
  void* record = nullptr;
  EXPECT_EQ(skep_ringbuf_reserve(queue->handle(), 8, &record), -EINVAL);
  EXPECT_EQ(skep_ringbuf_wait(queue->handle(), 0), -EINVAL);
}

TEST_F(RingBufferFaceTest, AConsumerWaitsForProducersInThreads) {
  auto ring = make();
  constexpr uint64_t kProducers = 2, kEach = 3000;
  std::vector<std::jthread> producers;
  for (uint64_t p = 0; p < kProducers; ++p) {
    producers.emplace_back([&ring, p] {
      for (uint64_t i = 0; i < kEach; ++i) {
        while (!ring.output(p << 32 | i)) std::this_thread::yield();
      }
    });
  }
  std::vector<uint64_t> next(kProducers, 0);
  uint64_t wrong = 0;
  for (uint64_t all = 0; all < kProducers * kEach;) {
    ASSERT_TRUE(*ring.wait(30'000));
    all += *ring.consume([&](std::span<const std::byte> record) {
      const uint64_t number = number_in(record);
      wrong += next[number >> 32]++ != (number & 0xffffffff);
    });
  }
  EXPECT_EQ(wrong, 0U);
}

TEST_F(RingBufferFaceTest, AKilledProducerHoldsNobodyUp) {
  auto ring = make();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    auto record = ring.reserve(8);
    const char done = record ? 1 : 0;
    if (::write(ready[1], &done, 1) != 1) _exit(1);
    for (;;) ::pause();
  }
  char done = 0;
  ASSERT_EQ(::read(ready[0], &done, 1), 1);
  ASSERT_EQ(done, 1);
  ASSERT_TRUE(ring.output(uint64_t{9}));
  EXPECT_FALSE(*ring.wait(1));
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(*ring.wait(30'000));
  uint64_t found = 0;
  EXPECT_EQ(*ring.consume([&](std::span<const std::byte> record) { found = number_in(record); }), 1U);
  EXPECT_EQ(found, 9U);
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace skep
