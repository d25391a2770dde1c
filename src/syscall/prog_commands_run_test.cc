// SPDX-License-Identifier: Apache-2.0
// PROG_TEST_RUN, compared with the kernel's.
#include <random>

#include "prog/context.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using ProgRunTest = TwoFaces;

/// One run; everything that it writes back goes into the diary.
struct OneRun {
  std::vector<unsigned char> data{}, context{};
  uint32_t data_out = 0, context_out = 0;  // bytes of the buffers
  bool no_size_hint = false;
  uint32_t repeat = 0, flags = 0, cpu = 0, batch = 0;

  void on(Face& face, int fd, const std::string& what) {
    std::vector<unsigned char> data_to(data_out + 1, 0xee), context_to(context_out + 1, 0xee);
    bpf_attr attr = run_attr(fd);
    attr.test.data_size_in = static_cast<uint32_t>(data.size());
    attr.test.data_in = data.empty() ? 0 : reinterpret_cast<uint64_t>(data.data());
    attr.test.data_size_out = no_size_hint ? 0 : data_out;
    attr.test.data_out = data_out == 0 ? 0 : reinterpret_cast<uint64_t>(data_to.data());
    attr.test.ctx_size_in = static_cast<uint32_t>(context.size());
    attr.test.ctx_in = context.empty() ? 0 : reinterpret_cast<uint64_t>(context.data());
    attr.test.ctx_size_out = context_out;
    attr.test.ctx_out = context_out == 0 ? 0 : reinterpret_cast<uint64_t>(context_to.data());
    attr.test.repeat = repeat;
    attr.test.flags = flags;
    attr.test.cpu = cpu;
    attr.test.batch_size = batch;
    face.note(what, face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr));
    face.note(what + ": retval", attr.test.retval);
    face.note(what + ": data size", attr.test.data_size_out);
    face.note(what + ": context size", attr.test.ctx_size_out);
    face.note(what + ": data", std::string(data_to.begin(), data_to.end()));
    face.note(what + ": context", std::string(context_to.begin(), context_to.end()));
    face.note(what + ": context in", std::string(context.begin(), context.end()));
  }
};

std::vector<unsigned char> packet(size_t size) {
  std::vector<unsigned char> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(i * 7 + 2);
  if (size >= 34) {
    bytes[12] = 8;  // IPv4
    bytes[13] = 0;
    bytes[14] = 0x45;
  }
  return bytes;
}

template <class T>
std::vector<unsigned char> bytes_of(const T& value) {
  const auto* at = reinterpret_cast<const unsigned char*>(&value);
  return {at, at + sizeof value};
}

constexpr uint32_t kPacketTypes[] = {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_CGROUP_SKB,
                                     BPF_PROG_TYPE_XDP};

TEST_F(ProgRunTest, PacketSizes) {
  compare([](Face& face) {
    for (const uint32_t type : kPacketTypes) {
      ProgramToLoad good = returning(1, type);
      const int fd = good.load(face);
      for (const uint32_t size : {0U, 1U, 13U, 14U, 15U, 33U, 34U, 54U, 60U, 1500U, 3520U, 3521U, 3600U, 3712U, 3713U,
                                  4096U, 9000U, 73152U, 73153U}) {
        for (const uint32_t room : {0U, 10U, 100U, 4000U, 80000U}) {
          OneRun{.data = packet(size), .data_out = room}.on(
              face, fd,
              "type " + std::to_string(type) + " size " + std::to_string(size) + " room " + std::to_string(room));
        }
      }
      OneRun{.data = packet(60), .data_out = 100, .no_size_hint = true}.on(face, fd, "no size hint");
      OneRun{.data = packet(60), .repeat = 100}.on(face, fd, "repeat");
      OneRun{.data = packet(60), .cpu = 1}.on(face, fd, "cpu");
      OneRun{.data = packet(60), .batch = 1}.on(face, fd, "batch");
      for (const uint32_t flag : {1U, 4U, 8U}) {
        OneRun{.data = packet(60), .flags = flag}.on(face, fd, "flag " + std::to_string(flag));
      }
      ::close(fd);
    }
  });
}

TEST_F(ProgRunTest, EveryFieldOfAnSkbContext) {
  compare([](Face& face) {
    for (const uint32_t type : {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_CGROUP_SKB}) {
      ProgramToLoad good = returning(1, type);
      const int fd = good.load(face);
      for (uint32_t at = 0; at < sizeof(UserSkBuff); at += 4) {
        if (at == offsetof(UserSkBuff, ifindex)) continue;  // devices of the host
        for (const uint32_t value : {1U, 100U, 70000U}) {
          UserSkBuff context{};
          std::memcpy(reinterpret_cast<char*>(&context) + at, &value, 4);
          OneRun{.data = packet(60), .context = bytes_of(context), .context_out = 192}.on(
              face, fd, "offset " + std::to_string(at) + " value " + std::to_string(value));
        }
      }
      for (const uint32_t size : {4U, 20U, 192U, 200U, 4000U}) {
        OneRun run{.data = packet(60), .context_out = size};
        run.context.assign(size, 0);
        if (size > 8) run.context[8] = 5;
        run.on(face, fd, "context of " + std::to_string(size));
        run.context.back() = 1;
        run.on(face, fd, "context of " + std::to_string(size) + " with a tail");
      }
      ::close(fd);
    }
  });
}

TEST_F(ProgRunTest, FieldsThatProgramsReadAndWrite) {
  compare([](Face& face) {
    for (const size_t field : {offsetof(UserSkBuff, len), offsetof(UserSkBuff, protocol), offsetof(UserSkBuff, ifindex),
                               offsetof(UserSkBuff, pkt_type)}) {
      for (const uint32_t type : {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS}) {
        ProgramToLoad reader = program({load(kW, r0, r1, static_cast<int>(field)), exit_()}, type);
        const int fd = reader.load(face);
        for (const int first : {0x00, 0x01, 0x02, 0xff}) {
          OneRun run{.data = packet(60)};
          std::fill_n(run.data.begin(), 6, static_cast<unsigned char>(first));
          run.on(face, fd, "field " + std::to_string(field) + " first byte " + std::to_string(first));
        }
        ::close(fd);
      }
    }
    ProgramToLoad writer = program({mov(r2, 77), store(kW, r1, offsetof(UserSkBuff, mark), r2),
                                    store(kW, r1, offsetof(UserSkBuff, cb) + 8, r2), mov(r0, 3), exit_()},
                                   BPF_PROG_TYPE_SCHED_CLS);
    const int fd = writer.load(face);
    OneRun{.data = packet(60), .context_out = 192}.on(face, fd, "writer");
    ::close(fd);
  });
}

TEST_F(ProgRunTest, PacketsThatProgramsChange) {
  compare([](Face& face) {
    // The last of six bytes of the source address becomes 0xaa; the packet is long enough.
    for (const uint32_t type : {BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SCHED_CLS}) {
      const bool xdp = type == BPF_PROG_TYPE_XDP;
      const int data = xdp ? 0 : static_cast<int>(offsetof(UserSkBuff, data));
      const int end = xdp ? 4 : static_cast<int>(offsetof(UserSkBuff, data_end));
      ProgramToLoad writer =
          program({load(kW, r2, r1, data), load(kW, r3, r1, end), mov(r4, r2), add(r4, 14), mov(r0, 0),
                   jump_if(kJgt, r4, r3, 2), store(kB, r2, 11, 0xaa), mov(r0, 2), exit_()},
                  type);
      const int fd = writer.load(face);
      face.expect("load", fd);
      OneRun{.data = packet(14), .data_out = 100}.on(face, fd, "short");
      OneRun{.data = packet(600), .data_out = 1000, .repeat = 3}.on(face, fd, "long");
      ::close(fd);
    }
    constexpr int32_t kAdjustHead = 44, kAdjustTail = 65;
    for (const int32_t helper : {kAdjustHead, kAdjustTail}) {
      for (const int32_t delta : {-300, -100, -8, 0, 8, 100, 300}) {
        ProgramToLoad adjust = program({mov(r2, delta), call(helper), exit_()}, BPF_PROG_TYPE_XDP);
        const int fd = adjust.load(face);
        UserXdpMd context{};
        context.data_end = 120;
        OneRun run{.data = packet(120), .context = bytes_of(context), .data_out = 1000, .context_out = 24};
        run.on(face, fd, "helper " + std::to_string(helper) + " by " + std::to_string(delta));
        ::close(fd);
      }
    }
  });
}

TEST_F(ProgRunTest, XdpContexts) {
  compare([](Face& face) {
    ProgramToLoad good = returning(2, BPF_PROG_TYPE_XDP);
    const int fd = good.load(face);
    std::mt19937 generator(1);
    const auto random = [&] { return static_cast<uint32_t>(generator()); };
    for (int i = 0; i < 400; ++i) {
      const uint32_t size = 14 + random() % 400;
      UserXdpMd context{};
      context.data_end = random() % 4 == 0 ? random() % 450 : size;
      if (random() % 2 == 0) context.data = random() % 260;
      if (random() % 2 == 0) context.data &= ~3U;
      if (random() % 16 == 0) context.data_meta = 4;
      if (random() % 8 == 0) context.ingress_ifindex = 1;
      if (random() % 8 == 0) context.rx_queue_index = 1;
      if (random() % 16 == 0) context.egress_ifindex = 1;
      OneRun{.data = packet(size), .context = bytes_of(context), .data_out = 100 + random() % 400, .context_out = 24}
          .on(face, fd,
              "size " + std::to_string(size) + " data " + std::to_string(context.data) + " end " +
                  std::to_string(context.data_end));
    }
    UserXdpMd context{
        .data = 0, .data_end = 60, .data_meta = 0, .ingress_ifindex = 99999, .rx_queue_index = 0, .egress_ifindex = 0};
    OneRun{.data = packet(60), .context = bytes_of(context)}.on(face, fd, "no such device");
    ::close(fd);
  });
}

TEST_F(ProgRunTest, RawTracepoints) {
  compare([](Face& face) {
    ProgramToLoad second = program({load(kDw, r0, r1, 8), exit_()}, BPF_PROG_TYPE_RAW_TRACEPOINT);
    const int fd = second.load(face);
    face.expect("load", fd);
    const std::vector<unsigned char> arguments{1, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0};
    OneRun{.context = arguments}.on(face, fd, "two arguments");
    OneRun{.context = std::vector<unsigned char>(96)}.on(face, fd, "twelve arguments");
    OneRun{.context = std::vector<unsigned char>(97)}.on(face, fd, "more");
    OneRun{.context = arguments, .cpu = 1}.on(face, fd, "cpu without the flag");
    OneRun{.context = arguments, .flags = 1}.on(face, fd, "on CPU 0");
    OneRun{.context = arguments, .flags = 1, .cpu = 4096}.on(face, fd, "on no CPU");
    OneRun{.data = packet(60), .context = arguments}.on(face, fd, "data");
    OneRun{.context = arguments, .repeat = 1}.on(face, fd, "repeat");
    OneRun{.context = arguments, .batch = 1}.on(face, fd, "batch");
    OneRun{.context = arguments, .context_out = 16}.on(face, fd, "context out");
    ::close(fd);
  });
}

TEST_F(ProgRunTest, RawTracepointOnEachCpu) {
  Face skep(process_.get());
  ProgramToLoad where = program({call(8), exit_()}, BPF_PROG_TYPE_RAW_TRACEPOINT);
  const int fd = where.load(skep);
  for (uint32_t cpu = 0; cpu < process_->instance->machine().cpus(); ++cpu) {
    bpf_attr attr = run_attr(fd);
    attr.test.flags = BPF_F_TEST_RUN_ON_CPU;
    attr.test.cpu = cpu;
    ASSERT_EQ(skep.call(BPF_PROG_TEST_RUN, &attr, sizeof attr), 0);
    EXPECT_EQ(attr.test.retval, cpu);
  }
  ::close(fd);
}

TEST_F(ProgRunTest, SystemCallPrograms) {
  compare([](Face& face) {
    ProgramToLoad doubles =
        program({load(kDw, r2, r1, 0), add(r2, r2), store(kDw, r1, 8, r2), mov(r0, 9), exit_()}, BPF_PROG_TYPE_SYSCALL);
    const int fd = doubles.load(face);
    face.expect("load", fd);
    const std::vector<unsigned char> context{21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    OneRun{.context = context}.on(face, fd, "doubles");
    OneRun{.context = context, .repeat = 1}.on(face, fd, "repeat");
    OneRun{.context = context, .flags = 1}.on(face, fd, "flags");
    OneRun{.context = context, .cpu = 1}.on(face, fd, "cpu");
    OneRun{.context = context, .context_out = 16}.on(face, fd, "context out");
    OneRun{.data = packet(20), .context = context}.on(face, fd, "data");
    OneRun{.context = std::vector<unsigned char>(65535)}.on(face, fd, "a large context");
    OneRun{.context = std::vector<unsigned char>(65536)}.on(face, fd, "too large a context");
    ::close(fd);
  });
}

TEST_F(ProgRunTest, ArgumentsInTheirOrder) {
  compare([](Face& face) {
    bpf_attr attr = run_attr(-1);
    face.note("no program", face.call(BPF_PROG_TEST_RUN, attr));
    attr.test.ctx_size_in = 4;
    face.note("a context size without a context", face.call(BPF_PROG_TEST_RUN, attr));
    for (const uint32_t type : {BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_KPROBE}) {
      ProgramToLoad good = returning(0, type);
      const int fd = good.load(face);
      OneRun{.data = packet(60)}.on(face, fd, "a type that cannot be tested");
      ::close(fd);
    }
    ProgramToLoad good = returning(0, BPF_PROG_TYPE_XDP);
    const int fd = good.load(face);
    attr = run_attr(fd);
    attr.test.data_size_in = 60;
    attr.test.data_in = 8;
    face.note("data at a bad place", face.call(BPF_PROG_TEST_RUN, attr));
    const auto bytes = packet(60);
    attr.test.data_in = reinterpret_cast<uint64_t>(bytes.data());
    attr.test.data_out = 8;
    attr.test.data_size_out = 60;
    face.note("output to a bad place", face.call(BPF_PROG_TEST_RUN, attr));
    attr.test.data_out = 0;
    attr.test.ctx_in = 8;
    attr.test.ctx_size_in = 24;
    face.note("context at a bad place", face.call(BPF_PROG_TEST_RUN, attr));
    const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 4, 1));
    face.note("a map", face.call(BPF_PROG_TEST_RUN, run_attr(map)));
    ::close(map);
    ::close(fd);
  });
}

TEST_F(ProgRunTest, AProgramThatBreaksARuleStops) {
  Face skep(process_.get());
  ProgramToLoad wild = program({mov(r1, 0), load(kDw, r0, r1, 0), exit_()}, BPF_PROG_TYPE_SYSCALL);
  const int fd = wild.load(skep);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(skep.call(BPF_PROG_TEST_RUN, run_attr(fd)), -EFAULT);
  EXPECT_NE(std::string(last_error_sentence()).find("insn 1"), std::string::npos) << last_error_sentence();
  ::close(fd);
}

}  // namespace
}  // namespace skep
