// SPDX-License-Identifier: Apache-2.0
#include "load.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <string>
#include <thread>
#include <vector>

namespace {

/// One client: a request is a line with a number, its answer a line with the number of primes up to it.
uint64_t talk(const sockaddr_in& server, unsigned requests) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  uint64_t right = 0;
  if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&server), sizeof server) == 0) {
    for (unsigned i = 0; i < requests; ++i) {
      constexpr const char* kQuestions[] = {"10\n", "100\n", "1000\n", "10000\n"};
      constexpr const char* kAnswers[] = {"4\n", "25\n", "168\n", "1229\n"};
      const std::string question = kQuestions[i % 4];
      if (::write(fd, question.data(), question.size()) != static_cast<ssize_t>(question.size())) break;
      std::string answer;
      char byte = 0;
      while (answer.find('\n') == std::string::npos && ::read(fd, &byte, 1) == 1) answer += byte;
      if (answer != kAnswers[i % 4]) break;
      ++right;
    }
  }
  if (fd >= 0) ::close(fd);
  return right;
}

}  // namespace

uint64_t send_load(const sockaddr_in& server, unsigned clients, unsigned requests) {
  std::atomic<uint64_t> right{0};
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < clients; ++i) threads.emplace_back([&] { right += talk(server, requests); });
  threads.clear();
  return right;
}
