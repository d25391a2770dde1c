// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "maps/map_test_support.h"
#include "prog/assembler.h"
#include "prog/runtime.h"

namespace skep::testing {

/// Collects what programs print.
class CollectingTrace final : public TraceSink {
 public:
  void line(std::string_view text) override { lines.emplace_back(text); }
  std::vector<std::string> lines;
};

/// How a run ended: R0, or the errno and the sentence.
struct Outcome {
  uint64_t value = 0;
  int error = 0;
  std::string reason;
};

/// Prepares and runs programs, on contexts of every type.
class ProgramTest : public MapTest {
 protected:
  std::unique_ptr<Program> prepare(std::vector<bpf_insn> code, uint32_t type = BPF_PROG_TYPE_SYSCALL) {
    ProgramDescription description;
    description.type = type;
    description.instructions = code;
    description.maps = maps_;
    auto program = Program::prepare(description);
    EXPECT_TRUE(program) << last_error_sentence();
    return program ? std::move(*program) : nullptr;
  }

  /// Why the program is refused; "" when it is not.
  std::string refusal(std::vector<bpf_insn> code, uint32_t type = BPF_PROG_TYPE_SYSCALL, bool gpl = true) {
    ProgramDescription description;
    description.type = type;
    description.gpl_compatible = gpl;
    description.instructions = code;
    description.maps = maps_;
    auto program = Program::prepare(description);
    if (program) return "";
    EXPECT_EQ(to_int(program.error()), EINVAL);
    return last_error_sentence();
  }

  Outcome run_on(RunContext context, std::vector<bpf_insn> code, uint32_t type) {
    const auto program = prepare(std::move(code), type);
    if (program == nullptr) return {0, EINVAL, "not prepared"};
    const Lease lease(machine(), Lease::Cpu{0});
    const auto result = runner_.run(*program, lease, context, environment_);
    if (result) return {*result, 0, ""};
    return {0, to_int(result.error()), last_error_sentence()};
  }

  /// As a SYSCALL program with the 64 bytes of bytes_ as its context.
  Outcome run(std::vector<bpf_insn> code) {
    BytesContext context{.data = bytes_.data(), .size = static_cast<uint32_t>(bytes_.size()), .writable = true};
    return run_on(&context, std::move(code), BPF_PROG_TYPE_SYSCALL);
  }
  /// R0 of a run that must succeed.
  uint64_t value_of(std::vector<bpf_insn> code) {
    const Outcome outcome = run(std::move(code));
    EXPECT_EQ(outcome.error, 0) << outcome.reason;
    return outcome.value;
  }

  Outcome run_xdp(std::vector<bpf_insn> code) {
    XdpContext context{.packet = packet(), .ingress_ifindex = 7, .rx_queue_index = 9};
    const Outcome outcome = run_on(&context, std::move(code), BPF_PROG_TYPE_XDP);
    packet_after_ = context.packet;
    return outcome;
  }
  Outcome run_skb(std::vector<bpf_insn> code, uint32_t type = BPF_PROG_TYPE_SCHED_CLS) {
    skb_.packet = packet();
    skb_.mac_header = skb_.packet.data;
    skb_.network_header = skb_.packet.data + 14;
    const Outcome outcome = run_on(&skb_, std::move(code), type);
    packet_after_ = skb_.packet;
    return outcome;
  }

  /// A packet of `length_` bytes, byte i being i, with 256 zero bytes before it and 320 behind.
  PacketBuffer packet() {
    buffer_.assign(256 + length_ + 320, std::byte{0});
    for (size_t i = 0; i < length_; ++i) buffer_[256 + i] = static_cast<std::byte>(i);
    std::byte* const data = buffer_.data() + 256;
    return {.buffer = buffer_.data(),
            .data_meta = data,
            .data = data,
            .data_end = data + length_,
            .buffer_end = data + length_ + 320};
  }

  /// Makes a map known to the programs prepared afterwards; its index.
  uint32_t add_map(std::shared_ptr<Map> map) {
    maps_.push_back(std::move(map));
    return static_cast<uint32_t>(maps_.size() - 1);
  }
  uint32_t add_array(uint32_t value_size, uint32_t max_entries, uint32_t flags = 0) {
    return add_map(make(spec(BPF_MAP_TYPE_ARRAY, 4, value_size, max_entries, flags)));
  }

  void TearDown() override {
    maps_.clear();
    MapTest::TearDown();
  }

  Runner runner_;
  CollectingTrace trace_;
  RunEnvironment environment_{.trace = &trace_};
  std::array<std::byte, 64> bytes_{};
  std::vector<std::shared_ptr<Map>> maps_;
  size_t length_ = 64;
  std::vector<std::byte> buffer_;
  SkbContext skb_;
  PacketBuffer packet_after_;
};

}  // namespace skep::testing
