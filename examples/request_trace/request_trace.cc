// SPDX-License-Identifier: Apache-2.0
//
// request_trace: a server that knows where its time goes.
//
// Worker threads answer requests on TCP connections. BPF programs that the server runs around each request add its
// latency to the worker's, the connection's and the cgroup's totals, which are local storage: nobody has to look them
// up by a key, and they go when the worker, the connection or the cgroup does. Anybody may look at the maps meanwhile:
//
//   skep run -- request_trace --clients 8 --requests 10000 &
//   skep run -- bpftool map dump name latencies
#include <arpa/inet.h>
#include <getopt.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "load.h"
#include "trace.h"

namespace {

constexpr char kUsage[] =
    "usage: request_trace [options]\n"
    "  -w, --workers N   threads that answer (default 4)\n"
    "  -c, --clients N   connections of the built-in load (default 8)\n"
    "  -r, --requests N  requests on each of them (default 1000)\n"
    "  -p, --pause       after the load say so, and wait for a line on stdin before the end\n";

struct Options {
  unsigned workers = 4;
  unsigned clients = 8;
  unsigned requests = 1000;
  bool pause = false;
};

void add(totals& to, const totals& part) {
  to.requests += part.requests;
  to.latency += part.latency;
  to.slowest = std::max(to.slowest, part.slowest);
}

/// What is said at the end: a line for each worker and connection, and the sums.
class Report {
 public:
  void task(unsigned worker, const totals& its) { record("worker " + std::to_string(worker), its, tasks_); }
  void connection(unsigned number, const totals& its) {
    record("connection " + std::to_string(number), its, connections_);
  }
  void print_sums(const totals& cgroups) const {
    std::printf("all workers: ");
    print(tasks_);
    std::printf("all connections: ");
    print(connections_);
    std::printf("all cgroups: ");
    print(cgroups);
  }

 private:
  static void print(const totals& its) {
    const uint64_t mean = its.requests == 0 ? 0 : its.latency / its.requests;
    std::printf("%llu requests, %llu ns in all, %llu ns on average, %llu ns at most\n",
                static_cast<unsigned long long>(its.requests), static_cast<unsigned long long>(its.latency),
                static_cast<unsigned long long>(mean), static_cast<unsigned long long>(its.slowest));
  }
  void record(const std::string& whose, const totals& its, totals& sum) {
    const std::lock_guard lock(mutex_);
    std::printf("%s: ", whose.c_str());
    print(its);
    add(sum, its);
  }

  std::mutex mutex_;
  totals tasks_{};
  totals connections_{};
};

/// A client's connection. It is an owner of local storage: what the programs keep of it goes with it.
class Connection {
 public:
  Connection(int fd, const Trace& trace) : fd_(fd), trace_(trace), owner_(trace.instance()) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::close(fd_); }

  /// Answers until the client hangs up.
  void serve() {
    const auto reference = owner_.attach();
    if (!reference) {
      std::fprintf(stderr, "%s\n", reference.error().message.c_str());
      return;
    }
    for (std::string question; read_line(question);) {
      trace_.begin(*reference);
      const std::string answer = count_primes(question);
      const bool written = ::write(fd_, answer.data(), answer.size()) == static_cast<ssize_t>(answer.size());
      trace_.end(*reference, answer.size());
      if (!written) return;
    }
  }
  [[nodiscard]] totals traced() const { return trace_.of_connection(owner_); }

 private:
  bool read_line(std::string& line) {
    line.clear();
    for (;;) {
      if (const size_t end = received_.find('\n'); end != std::string::npos) {
        line = received_.substr(0, end);
        received_.erase(0, end + 1);
        return true;
      }
      char buffer[512];
      const ssize_t length = ::read(fd_, buffer, sizeof buffer);
      if (length <= 0) return false;
      received_.append(buffer, static_cast<size_t>(length));
    }
  }
  /// The work of a request.
  static std::string count_primes(const std::string& question) {
    constexpr unsigned kMost = 1'000'000;
    unsigned limit = 0;
    std::from_chars(question.data(), question.data() + question.size(), limit);
    std::vector<bool> composite(std::min(limit, kMost) + size_t{1});
    unsigned primes = 0;
    for (size_t n = 2; n < composite.size(); ++n) {
      if (composite[n]) continue;
      ++primes;
      for (size_t multiple = n * n; multiple < composite.size(); multiple += n) composite[multiple] = true;
    }
    return std::to_string(primes) + "\n";
  }

  const int fd_;
  const Trace& trace_;
  skep::Owner owner_;
  std::string received_;
};

class Server {
 public:
  Server(const Trace& trace, Report& report) : trace_(trace), report_(report) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (listener_ >= 0) ::close(listener_);
  }

  /// On a port of the loopback device that the system chooses. False, and errno.
  bool listen() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const address = reinterpret_cast<sockaddr*>(&address_);
    socklen_t size = sizeof address_;
    return listener_ >= 0 && ::bind(listener_, address, size) == 0 && ::listen(listener_, SOMAXCONN) == 0 &&
           ::getsockname(listener_, address, &size) == 0;
  }
  [[nodiscard]] const sockaddr_in& address() const { return address_; }

  void start(unsigned workers) {
    for (unsigned i = 0; i < workers; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  /// Lets the workers finish what they do.
  void stop() {
    ::shutdown(listener_, SHUT_RDWR);
    workers_.clear();
  }

 private:
  void work(unsigned worker) {
    for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      Connection connection(fd, trace_);
      connection.serve();
      report_.connection(next_.fetch_add(1), connection.traced());
    }
    report_.task(worker, trace_.of_current_task());
  }

  const Trace& trace_;
  Report& report_;
  int listener_ = -1;
  sockaddr_in address_{};
  std::atomic<unsigned> next_{0};
  std::vector<std::jthread> workers_;
};

bool parse(int argc, char** argv, Options& options) {
  static const option kNames[] = {{"workers", required_argument, nullptr, 'w'},
                                  {"clients", required_argument, nullptr, 'c'},
                                  {"requests", required_argument, nullptr, 'r'},
                                  {"pause", no_argument, nullptr, 'p'},
                                  {nullptr, 0, nullptr, 0}};
  const auto number = [] { return static_cast<unsigned>(std::strtoul(optarg, nullptr, 10)); };
  for (int option; (option = getopt_long(argc, argv, "w:c:r:p", kNames, nullptr)) != -1;) {
    switch (option) {
      case 'w':
        options.workers = number();
        break;
      case 'c':
        options.clients = number();
        break;
      case 'r':
        options.requests = number();
        break;
      case 'p':
        options.pause = true;
        break;
      default:
        return false;
    }
  }
  return optind == argc && options.workers > 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const auto trace = Trace::load();
  if (!trace) {
    std::fprintf(stderr, "request_trace: %s\n", trace.error().c_str());
    return 1;
  }
  Report report;
  Server server(**trace, report);
  if (!server.listen()) {
    std::fprintf(stderr, "request_trace: cannot listen: %s\n", std::strerror(errno));
    return 1;
  }
  server.start(options.workers);
  const uint64_t answered = send_load(server.address(), options.clients, options.requests);
  if (options.pause) {
    std::fprintf(stderr, "paused after %llu requests\n", static_cast<unsigned long long>(answered));
    for (int character = std::getchar(); character != '\n' && character != EOF;) character = std::getchar();
  }
  server.stop();
  report.print_sums((*trace)->of_cgroups());
  std::printf("answered: %llu requests, %llu bytes; connections that are still known: %llu\n",
              static_cast<unsigned long long>(answered), static_cast<unsigned long long>((*trace)->answered_bytes()),
              static_cast<unsigned long long>((*trace)->known_connections()));
  return 0;
}
