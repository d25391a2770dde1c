// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "machine/machine.h"
#include "maps/map.h"
#include "prog/assembler.h"
#include "prog/helper.h"
#include "prog/runtime.h"

// Hostile programs: whatever passes Program::prepare() runs, and must not touch memory that is not its own. The
// sanitizer watches the heap, in which stack, packet and context stand; the fuzzer itself watches that the packet's
// surroundings and the map values of other maps keep their content.
namespace {

using namespace skep;
using namespace skep::assembler;

struct Sink final : TraceSink {
  void line(std::string_view) override {}
};

/// Maps and a machine in a directory that goes away with the process.
class World {
 public:
  World() {
    if (mkdtemp(directory_.data()) == nullptr) std::abort();
    directory_fd_ = open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    machine = Machine::open(directory_fd_).value();
    MapSpec plain{};
    plain.type = BPF_MAP_TYPE_ARRAY;
    plain.key_size = 4;
    plain.value_size = 12;
    plain.max_entries = 4;
    maps.push_back(make(plain));
    plain.max_entries = 1;
    plain.value_size = 24;
    maps.push_back(make(plain));
    plain.fields.spin_lock = 8;
    maps.push_back(make(plain));
    plain.fields = {};
    plain.type = BPF_MAP_TYPE_PERCPU_ARRAY;
    maps.push_back(make(plain));
    plain.type = BPF_MAP_TYPE_HASH;
    plain.key_size = 8;
    plain.value_size = 16;
    plain.max_entries = 5;
    if (find_map_kind(plain.type) != nullptr) maps.push_back(make(plain));
  }
  ~World() {
    maps.clear();
    machine.reset();
    close(directory_fd_);
    std::filesystem::remove_all(directory_);
  }

  std::shared_ptr<Machine> machine;
  std::vector<std::shared_ptr<Map>> maps;

 private:
  std::shared_ptr<Map> make(const MapSpec& spec) {
    MapCreation creation;
    creation.spec = spec;
    const int fd = open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    std::shared_ptr<Map> map = create_map(fd, creation, *machine).value();
    close(fd);
    return map;
  }

  std::string directory_ = "/dev/shm/skep-fuzz-XXXXXX";
  int directory_fd_ = -1;
};

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t word() { return byte() | uint32_t{byte()} << 8 | uint32_t{byte()} << 16 | uint32_t{byte()} << 24; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

constexpr int32_t kHelperNumbers[] = {1,   2,   3,   4,   5,   6,   9,   10,  11,  16,  26,  28,  32,
                                      39,  40,  41,  44,  45,  48,  54,  65,  68,  93,  94,  105, 106,
                                      113, 115, 148, 164, 165, 177, 181, 182, 188, 189, 190, 195};

/// One instruction out of bytes, mostly one that prepare() accepts.
Code instruction(Input& input, size_t maps) {
  const uint8_t kind = input.byte();
  const auto dst = static_cast<Register>(input.byte() % 10);
  const auto src = static_cast<Register>(input.byte() % 11);
  const int off = static_cast<int8_t>(input.byte());
  constexpr uint8_t kSizes[] = {kB, kH, kW, kDw};
  const uint8_t size = kSizes[kind >> 4 & 3];
  constexpr uint8_t kOperations[] = {kAdd, kSub, kMul, kDiv, kOr, kAnd, kLsh, kRsh, kMod, kXor, kMov, kArsh};
  switch (kind % 16) {
    case 0:
      return mov(dst, static_cast<int32_t>(input.word()));
    case 1:
      return mov(dst, src);
    case 2:
      return alu(kOperations[input.byte() % 12], dst, src);
    case 3:
      return add(dst, off);
    case 4:
      return load(size, dst, src, off);
    case 5:
      return store(size, src, off, dst);
    case 6:
      return store(size, src, off, off);
    case 7:
      return load_map(dst, input.byte() % static_cast<uint32_t>(maps));
    case 8:
      return load_map_value(dst, 1 + input.byte() % 2, input.byte() % 24);
    case 9:
    case 10:
      return call(kHelperNumbers[input.byte() % std::size(kHelperNumbers)]);
    case 11:
      return jump_if(kJne, dst, src, off % 8);
    case 12:
      return load_function(dst, off % 16);
    case 13:
      return call_function(off % 16);
    case 14:
      return atomic(kind & 16 ? kW : kDw, kAdd | (kind >> 5 & 1 ? kFetch : 0), src, off, dst);
    default:
      return mov(dst, r10);
  }
}

std::vector<bpf_insn> program(Input& input, bool raw, size_t maps) {
  std::vector<bpf_insn> code;
  while (!input.empty() && code.size() < 512) {
    if (raw) {
      bpf_insn insn = one(::skep::assembler::raw(input.byte(), input.byte() % 11, input.byte() % 11,
                                                 static_cast<int8_t>(input.byte()), input.word()))
                          .first;
      code.push_back(insn);
    } else {
      const Code next = instruction(input, maps);
      code.push_back(next.first);
      if (next.wide) code.push_back(next.second);
    }
  }
  code.push_back(exit_().first);
  return code;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  static Runner runner;
  Sink sink;
  Input input(data, size);
  constexpr uint32_t kTypes[] = {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP,
                                 BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_SYSCALL};
  const uint8_t choice = input.byte();
  ProgramDescription description;
  description.type = kTypes[choice % 5];
  const auto code = program(input, (choice & 0x80) != 0, world.maps.size());
  description.instructions = code;
  description.maps = world.maps;
  const auto prepared = Program::prepare(description);
  if (!prepared) return -1;

  constexpr size_t kHead = 64, kPacket = 40, kTail = 32;
  std::vector<std::byte> buffer(kHead + kPacket + kTail);
  std::byte* const start = buffer.data() + kHead;
  const PacketBuffer packet{.buffer = buffer.data(),
                            .data_meta = start,
                            .data = start,
                            .data_end = start + kPacket,
                            .buffer_end = buffer.data() + buffer.size()};
  XdpContext xdp{.packet = packet};
  SkbContext skb{.packet = packet, .mac_header = start, .network_header = start + 14};
  std::vector<std::byte> bytes(24);
  BytesContext plain{.data = bytes.data(), .size = 24, .writable = description.type == BPF_PROG_TYPE_SYSCALL};
  RunContext context = &plain;
  if (description.type == BPF_PROG_TYPE_XDP) {
    context = &xdp;
  } else if (description.type == BPF_PROG_TYPE_SOCKET_FILTER || description.type == BPF_PROG_TYPE_SCHED_CLS) {
    context = &skb;
  }
  const Lease lease(*world.machine, Lease::Cpu{0});
  (void)runner.run(**prepared, lease, context, {.trace = &sink, .instruction_limit = 20000});
  // Where no helper moves the packet's ends, nothing around it may have changed.
  if (description.type != BPF_PROG_TYPE_XDP) {
    for (size_t i = 0; i < buffer.size(); ++i) {
      const bool inside = i >= kHead && i < kHead + kPacket;
      if (!inside && buffer[i] != std::byte{0}) std::abort();
    }
  }
  if (description.type == BPF_PROG_TYPE_KPROBE) {
    for (const std::byte byte : bytes) {
      if (byte != std::byte{0}) std::abort();
    }
  }
  return 0;
}
