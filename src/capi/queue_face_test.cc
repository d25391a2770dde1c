// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

struct Job {
  uint32_t number;
  uint64_t bytes;
  friend bool operator==(const Job&, const Job&) = default;
};

class QueueFaceTest : public testing::InstanceTest {};

TEST_F(QueueFaceTest, FirstInFirstOut) {
  auto queue = Queue<Job>::create(instance(), {.name = "jobs", .max_entries = 2});
  ASSERT_TRUE(queue) << queue.error().message;
  EXPECT_EQ(queue->peek(), std::nullopt);
  EXPECT_EQ(*queue->pop(), std::nullopt);
  EXPECT_TRUE(*queue->push({1, 10}));
  EXPECT_TRUE(*queue->push({2, 20}));
  EXPECT_FALSE(*queue->push({3, 30})) << "it is full";
  EXPECT_EQ(queue->peek(), (Job{1, 10}));
  EXPECT_TRUE(queue->push_over({4, 40}));
  EXPECT_EQ(*queue->pop(), (Job{2, 20}));
  EXPECT_EQ(*queue->pop(), (Job{4, 40}));
  EXPECT_EQ(*queue->pop(), std::nullopt);
}

TEST_F(QueueFaceTest, LastInFirstOut) {
  auto stack = Stack<uint32_t>::create(instance(), {.max_entries = 3});
  ASSERT_TRUE(stack) << stack.error().message;
  for (const uint32_t value : {1U, 2U, 3U}) ASSERT_TRUE(*stack->push(value));
  EXPECT_TRUE(stack->push_over(4));
  for (const uint32_t value : {4U, 3U, 2U}) EXPECT_EQ(*stack->pop(), value);
  EXPECT_EQ(stack->peek(), std::nullopt);
}

TEST_F(QueueFaceTest, OpenByPinReadOnlyAndAsSomethingElse) {
  auto queue = Queue<uint64_t>::create(instance(), {.name = "jobs", .max_entries = 2});
  ASSERT_TRUE(queue);
  ASSERT_TRUE(queue->pin("/sys/fs/bpf/jobs"));
  ASSERT_TRUE(*queue->push(7));
  auto reader = Queue<uint64_t>::open_pin(instance(), "/sys/fs/bpf/jobs", Access::kReadOnly);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(reader->peek(), 7U);
  EXPECT_EQ(reader->pop().error().code, EPERM);
  EXPECT_EQ(reader->push(8).error().code, EPERM);
  const auto wrong = Stack<uint64_t>::open_id(instance(), queue->id());
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("is a queue with keys of 0 and values of 8 bytes, not a stack"),
            std::string::npos)
      << wrong.error().message;
  EXPECT_FALSE(Queue<uint32_t>::open_id(instance(), queue->id()));
}

TEST_F(QueueFaceTest, NothingIsLostBetweenThreads) {
  auto queue = Queue<uint64_t>::create(instance(), {.max_entries = 16});
  ASSERT_TRUE(queue);
  constexpr uint64_t kProducers = 2, kEach = 5000;
  std::atomic<uint64_t> popped = 0, sum = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t p = 0; p < kProducers; ++p) {
      threads.emplace_back([&, p] {
        for (uint64_t i = 0; i < kEach; ++i) {
          while (!*queue->push(p * kEach + i)) std::this_thread::yield();
        }
      });
      threads.emplace_back([&] {
        while (popped < kProducers * kEach) {
          const auto value = *queue->pop();
          if (!value) {
            std::this_thread::yield();
            continue;
          }
          sum += *value;
          ++popped;
        }
      });
    }
  }
  EXPECT_EQ(sum, kProducers * kEach * (kProducers * kEach - 1) / 2);
}

}  // namespace
}  // namespace skep
