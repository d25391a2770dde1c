// SPDX-License-Identifier: Apache-2.0
// Sequences of bpf(2) calls on one instance: each call is a command, an attr size and attr bytes of the fuzzer's
// choice, in which some words are replaced by what could have been meant there (descriptors, addresses, ids). Nothing
// may crash, hang or write where no buffer is; the maps must stay whole.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "syscall/process.h"

namespace skep {
namespace {

constexpr size_t kArena = 1 << 16;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  void bytes(void* to, size_t size) {
    for (auto* out = static_cast<uint8_t*>(to); size > 0; --size) *out++ = byte();
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

struct World {
  char directory[40] = "/dev/shm/skep-fuzz-XXXXXX";
  Process* process = nullptr;
  std::byte* arena = nullptr;  // what addresses point to; the page behind it cannot be touched

  World() {
    const rlimit few{64, 64};
    ::setrlimit(RLIMIT_NOFILE, &few);
    if (::mkdtemp(directory) == nullptr) std::abort();
    std::atexit([] { std::filesystem::remove_all(world().directory); });
    auto instance = Instance::open(directory);
    if (!instance) std::abort();
    process = new Process(*instance);
    void* memory = ::mmap(nullptr, kArena + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    arena = static_cast<std::byte*>(memory);
    ::mprotect(arena + kArena, 4096, PROT_NONE);
  }
  static World& world() {
    static World* const world = new World;
    return *world;
  }
};

/// Word `i` of the attr, made plausible in one of several ways.
void make_plausible(bpf_attr& attr, size_t i, uint8_t how, const World& world, const int* fds) {
  auto* words = reinterpret_cast<uint32_t*>(&attr);
  const uint32_t choice = how >> 3;
  switch (how & 7) {
    case 1:
      words[i] = static_cast<uint32_t>(fds[choice % 4]);
      break;
    case 2:
    case 3: {
      const auto address = reinterpret_cast<uint64_t>(world.arena) + choice * 2048;
      std::memcpy(words + (i & ~size_t{1}), &address, sizeof address);
      break;
    }
    case 4:
      words[i] = choice;
      break;
    case 5:
      words[i] = 0;
      break;
    case 6: {
      const auto address = reinterpret_cast<uint64_t>(world.arena) + kArena - choice;
      std::memcpy(words + (i & ~size_t{1}), &address, sizeof address);
      break;
    }
    default:
      break;
  }
}

void limit_memory(int cmd, bpf_attr& attr) {
  if (cmd != BPF_MAP_CREATE) return;
  attr.max_entries %= 200;
  attr.value_size %= 34000;
  attr.key_size %= 2000;
}

void check_maps(Process& process, const int* fds) {
  for (int i = 0; i < 4; ++i) {
    const auto object = process.descriptors.share(fds[i], ObjectKind::kMap);
    if (object && !(*object)->map->check().problem.empty()) std::abort();
  }
}

void run(Input input) {
  World& world = World::world();
  constexpr const char* kPin = "/sys/fs/bpf/p";
  std::memcpy(world.arena + 31 * 2048, kPin, std::strlen(kPin) + 1);
  int fds[4] = {-1, 0, -1, -1};
  unsigned next = 0;
  for (int calls = 0; calls < 24 && !input.empty(); ++calls) {
    const int cmd = input.byte() % 40;
    const unsigned size = input.byte();
    bpf_attr attr;
    std::memset(&attr, 0, sizeof attr);
    const size_t given = input.byte() % (sizeof attr + 1);
    input.bytes(&attr, given);
    for (size_t i = 0; i < sizeof attr / 4 && i * 4 < given; ++i) make_plausible(attr, i, input.byte(), world, fds);
    limit_memory(cmd, attr);
    if (cmd == BPF_PROG_TEST_RUN) attr.test.repeat %= 4;
    alignas(8) unsigned char buffer[256] = {};
    std::memcpy(buffer, &attr, sizeof attr);
    const int result = bpf(*world.process, cmd, reinterpret_cast<bpf_attr*>(buffer), size);
    if (result > 2) {
      int& slot = fds[next++ % 4];
      if (slot > 2) ::close(slot);
      slot = result;
    }
  }
  check_maps(*world.process, fds);
  for (const int fd : fds)
    if (fd > 2) ::close(fd);
  ::unlink((world.process->instance->pin_directory() + "/p").c_str());
}

}  // namespace
}  // namespace skep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  skep::run(skep::Input(data, size));
  return 0;
}
