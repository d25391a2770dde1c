// SPDX-License-Identifier: Apache-2.0
// Ring buffers, random on skep and on the kernel: producers that hold several records at once; and a program that
// drains what a careless client produced.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>

#include "btf/btf_builder.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kOutput = 130, kReserve = 131, kSubmit = 132, kDiscard = 133, kQuery = 134, kDynptrRead = 201,
                  kDrain = 209;
constexpr uint32_t kPage = 4096, kBusy = 1U << 31, kDiscarded = 1U << 30;

/// A ring as a client has it: the positions and the data, which a second time follow themselves.
class Window {
 public:
  Window(int fd, uint32_t size, bool client_produces) : size_(size) {
    consumer_ = map(fd, 0, kPage, client_produces ? PROT_READ : PROT_READ | PROT_WRITE);
    producer_ = map(fd, kPage, kPage + 2 * size, client_produces ? PROT_READ | PROT_WRITE : PROT_READ);
  }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;
  ~Window() {
    munmap(consumer_, kPage);
    munmap(producer_, kPage + 2 * size_);
  }
  [[nodiscard]] std::atomic<uint64_t>& consumer() const { return *reinterpret_cast<std::atomic<uint64_t>*>(consumer_); }
  [[nodiscard]] std::atomic<uint64_t>& producer() const { return *reinterpret_cast<std::atomic<uint64_t>*>(producer_); }
  [[nodiscard]] unsigned char* data(uint64_t position) const { return producer_ + kPage + position % size_; }
  [[nodiscard]] bool mapped() const { return consumer_ != MAP_FAILED && producer_ != MAP_FAILED; }

 private:
  static unsigned char* map(int fd, off_t offset, size_t length, int protection) {
    return static_cast<unsigned char*>(mmap(nullptr, length, protection, MAP_SHARED, fd, offset));
  }
  unsigned char* consumer_;
  unsigned char* producer_;
  uint32_t size_;
};

class RingOracle : public TwoFaces {
 protected:
  static uint64_t seed() {
    const char* text = ::getenv("SKEP_ORACLE_SEED");
    return text != nullptr ? strtoull(text, nullptr, 0) : std::random_device{}();
  }
  static int64_t run(Face& face, int program) {
    std::array<char, 64> packet{};
    bpf_attr attr = run_attr(program);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
    attr.test.data_size_in = packet.size();
    const int result = face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result : int64_t{attr.test.retval};
  }

  /// A program that reserves, submits, discards, puts out and asks; what it was answered is folded into its result. The
  /// records are in R6 to R8, the result in R9.
  static std::vector<bpf_insn> producer(int ring, std::mt19937_64& random) {
    const auto map = static_cast<uint32_t>(ring);
    std::vector<bpf_insn> code;
    const auto append = [&](std::initializer_list<Code> codes) {
      const auto more = assemble(codes);
      code.insert(code.end(), more.begin(), more.end());
    };
    const auto pick = [&](std::initializer_list<int32_t> choices) {
      return *(choices.begin() + random() % choices.size());
    };
    append({store(kDw, r10, -8, static_cast<int32_t>(random())), store(kDw, r10, -16, 77), mov(r6, 0), mov(r7, 0),
            mov(r8, 0), mov(r9, 1)});
    std::array<bool, 3> open{};
    const auto end_record = [&](size_t slot) {
      const auto record = static_cast<Register>(r6 + slot);
      append({jump_if(kJeq, record, 0, 3), mov(r1, record), mov(r2, pick({0, 0, 1, 2, 3})),
              call(random() % 3 == 0 ? kDiscard : kSubmit), mov(record, 0)});
      open[slot] = false;
    };
    for (int step = 0; step < 8; ++step) {
      const size_t slot = random() % 3;
      const auto record = static_cast<Register>(r6 + slot);
      if (open[slot]) {
        end_record(slot);
      } else if (random() % 4 != 0) {
        const int32_t size = pick({0, 1, 7, 8, 9, 16, 100, 1000, 2000, 4080, 4088, 4089, 5000, 1 << 29, 1 << 30});
        append({load_map(r1, map), mov(r2, size), mov(r3, random() % 12 == 0 ? 1 : 0), call(kReserve), mov(record, r0),
                alu(kMul, r9, 31), jump_if(kJeq, record, 0, size >= 8 ? 2 : 1), add(r9, 1)});
        if (size >= 8) append({store(kDw, record, 0, static_cast<int32_t>(random()))});
        open[slot] = true;
      } else {
        append({load_map(r1, map), mov(r2, r10), add(r2, -16), mov(r3, pick({0, 1, 8, 13, 16})),
                mov(r4, pick({0, 0, 1, 2, 3, 4, 7})), call(kOutput), alu(kMul, r9, 31), add(r9, r0)});
      }
      append({load_map(r1, map), mov(r2, pick({0, 0, 1, 2, 3, 5, 99})), call(kQuery), alu(kMul, r9, 31), add(r9, r0)});
    }
    for (size_t slot = 0; slot < 3; ++slot) {
      if (open[slot]) end_record(slot);
    }
    append({mov(r0, r9), exit_()});
    return code;
  }

  /// Notes what a consumer sees of at most `most` records, and passes them.
  static void consume(Face& face, const Window& window, uint64_t most) {
    uint64_t at = window.consumer().load();
    for (uint64_t i = 0; i < most && at < window.producer().load(); ++i) {
      uint32_t header;
      std::memcpy(&header, window.data(at), 4);
      face.note("header", header);
      const uint32_t length = header & ~(kBusy | kDiscarded);
      if ((header & kDiscarded) == 0 && length >= 8) {
        uint64_t first;
        std::memcpy(&first, window.data(at) + 8, 8);
        face.note("begins with", static_cast<int64_t>(first));
      }
      at += (length + 8 + 7) / 8 * 8;
    }
    window.consumer().store(at);
  }

  /// A program that drains the ring with flags R2 gave it, counts what it saw in the element of `sums`, and stops at a
  /// sample that begins with 1.
  static int load_drainer(Face& face, int ring, int sums, int32_t flags) {
    auto code = assemble({load_map(r1, static_cast<uint32_t>(ring)), load_function(r2, 6), mov(r3, 0), mov(r4, flags),
                          call(kDrain), exit_()});
    code[2].imm = static_cast<int32_t>(code.size() - 2 - 1);
    const auto callback_at = static_cast<uint32_t>(code.size());
    const auto callback = assemble({store(kDw, r10, -8, 0),
                                    mov(r3, r1),
                                    mov(r1, r10),
                                    add(r1, -8),
                                    mov(r2, 8),
                                    mov(r4, 0),
                                    mov(r5, 0),
                                    call(kDynptrRead),
                                    load_map_value(r5, static_cast<uint32_t>(sums), 0),
                                    load(kDw, r1, r5, 0),
                                    add(r1, 1),
                                    store(kDw, r5, 0, r1),
                                    load(kDw, r1, r5, 8),
                                    alu(kMul, r1, 31),
                                    add(r1, r0),
                                    store(kDw, r5, 8, r1),
                                    load(kDw, r2, r10, -8),
                                    load(kDw, r1, r5, 16),
                                    alu(kMul, r1, 31),
                                    add(r1, r2),
                                    store(kDw, r5, 16, r1),
                                    mov(r0, 0),
                                    jump_if(kJne, r2, 1, 1),
                                    mov(r0, 1),
                                    exit_()});
    code.insert(code.end(), callback.begin(), callback.end());
    BtfBuilder builder;
    const uint32_t number = builder.integer("int", 4, 1), any = builder.add(BtfKind::kPtr, "", 0);
    const uint32_t outer = builder.prototype(number, {{"context", any}});
    const uint32_t inner = builder.prototype(number, {{"sample", any}, {"context", any}});
    const bpf_func_info functions[] = {{0, builder.add(BtfKind::kFunc, "drain", outer, 1)},
                                       {callback_at, builder.add(BtfKind::kFunc, "take", inner, 0)}};
    const auto raw = builder.raw();
    bpf_attr types = no_attr();
    types.btf = reinterpret_cast<uint64_t>(raw.data());
    types.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = face.call(BPF_BTF_LOAD, types);
    ProgramToLoad program;
    program.type = BPF_PROG_TYPE_SCHED_CLS;
    program.code = code;
    bpf_attr attr = program.attr();
    attr.prog_btf_fd = static_cast<uint32_t>(btf);
    attr.func_info = reinterpret_cast<uint64_t>(functions);
    attr.func_info_cnt = 2;
    attr.func_info_rec_size = sizeof functions[0];
    const int result = face.call(BPF_PROG_LOAD, attr);
    ::close(btf);
    return result;
  }
};

TEST_F(RingOracle, RecordsHeldTogether) {
  const uint64_t chosen = seed();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(chosen));
  compare([&](Face& face) {
    std::mt19937_64 random(chosen);
    for (const uint32_t size : {kPage, 2 * kPage}) {
      const int ring = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_RINGBUF, 0, 0, size));
      const Window window(ring, size, false);
      ASSERT_TRUE(window.mapped());
      for (int round = 0; round < 60; ++round) {
        ProgramToLoad code = returning(0, BPF_PROG_TYPE_XDP);
        code.code = producer(ring, random);
        const int program = code.load(face);
        face.expect("load", program);
        for (int again = 0; again < 6; ++again) {
          const std::string what = "round " + std::to_string(round) + "." + std::to_string(again);
          face.note(what, run(face, program));
          face.note(what + " produced", static_cast<int64_t>(window.producer().load()));
          consume(face, window, random() % 12);
        }
        ::close(program);
        consume(face, window, UINT64_MAX);
      }
      ::close(ring);
    }
  });
}

TEST_F(RingOracle, WhatCarelessClientsProduce) {
  const uint64_t chosen = seed();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(chosen));
  compare([&](Face& face) {
    std::mt19937_64 random(chosen);
    const int sums = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 24, 1));
    for (int round = 0; round < 40; ++round) {
      const int ring = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, kPage));
      const Window window(ring, kPage, true);
      ASSERT_TRUE(window.mapped());
      const int drainer = load_drainer(face, ring, sums, static_cast<int32_t>(random() % 8 == 0 ? random() % 6 : 0));
      face.expect("load", drainer);
      for (int batch = 0; batch < 12; ++batch) {
        const std::string what = "round " + std::to_string(round) + "." + std::to_string(batch);
        uint64_t at = window.producer().load();
        const uint64_t room = kPage - std::min<uint64_t>(kPage, at - window.consumer().load());
        for (uint64_t used = 0; random() % 8 != 0;) {
          const uint64_t length = random() % 20 == 0 ? random() % 6000 : random() % 60, whole = (length + 15) / 8 * 8;
          if (used + whole > room && random() % 10 != 0) break;
          uint32_t header = static_cast<uint32_t>(length);
          if (random() % 5 == 0) header |= kDiscarded;
          if (random() % 15 == 0) header |= kBusy;
          const uint64_t content = random() % 12 == 0 ? 1 : random();
          std::memcpy(window.data(at), &header, 4);
          std::memcpy(window.data(at) + 8, &content, 8);
          std::memcpy(window.data(at + 8), &content,
                      8);  // the same place, but for the mirror of skep's (differences.md)
          at += whole;
          used += whole;
        }
        if (random() % 12 == 0) {
          std::memset(window.data(at), 0, 8);
          at += 4 * (random() % 3);
        }
        window.producer().store(at);
        face.note(what, run(face, drainer));
        face.note(what + " consumed", static_cast<int64_t>(window.consumer().load()));
        std::array<int64_t, 3> seen{};
        const uint32_t zero = 0;
        face.call(BPF_MAP_LOOKUP_ELEM, element_attr(sums, &zero, seen.data()));
        for (const int64_t sum : seen) face.note(what + " sum", sum);
        // A sample that is still being written, or a position that is none: the client thinks better of it.
        if (window.producer().load() != window.consumer().load() && random() % 3 == 0)
          window.producer().store(window.consumer().load());
      }
      for (const int fd : {drainer, ring}) ::close(fd);
    }
    ::close(sums);
  });
}

}  // namespace
}  // namespace skep
