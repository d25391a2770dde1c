// SPDX-License-Identifier: Apache-2.0
// The kernel's BPF_BTF_LOAD against Btf::parse() on BTF that was damaged at random: the errno must be the same.
#include <gtest/gtest.h>
#include <skep/abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "btf/btf.h"
#include "btf/btf_builder.h"

namespace skep {
namespace {

int kernel_error(std::span<const std::byte> raw) {
  bpf_attr attr{};
  attr.btf = reinterpret_cast<uint64_t>(raw.data());
  attr.btf_size = static_cast<uint32_t>(raw.size());
  const long fd = ::syscall(SYS_bpf, BPF_BTF_LOAD, &attr, sizeof attr);
  if (fd < 0) return errno;
  ::close(static_cast<int>(fd));
  return 0;
}

/// What the kernel has to say about it.
std::string kernel_log(std::span<const std::byte> raw) {
  std::string text(1 << 16, '\0');
  bpf_attr attr{};
  attr.btf = reinterpret_cast<uint64_t>(raw.data());
  attr.btf_size = static_cast<uint32_t>(raw.size());
  attr.btf_log_buf = reinterpret_cast<uint64_t>(text.data());
  attr.btf_log_size = static_cast<uint32_t>(text.size());
  attr.btf_log_level = VerifierLog::kLevel1;
  const long fd = ::syscall(SYS_bpf, BPF_BTF_LOAD, &attr, sizeof attr);
  if (fd >= 0) ::close(static_cast<int>(fd));
  text.resize(std::strlen(text.c_str()));
  return text;
}

int skep_error(std::span<const std::byte> raw) {
  const auto btf = Btf::parse(raw);
  return btf ? 0 : to_int(btf.error());
}

bool kernel_refuses() {
  const int error = kernel_error(btf_of_every_kind());
  return error == EPERM || error == ENOSYS || error == EACCES;
}

/// Changes one to three places: words of the header and the types mostly, sometimes a byte, sometimes the length.
void damage(std::vector<std::byte>& raw, std::mt19937_64& random) {
  const auto below = [&](uint64_t bound) { return static_cast<uint32_t>(random() % bound); };
  for (uint32_t changes = 1 + below(3); changes > 0; --changes) {
    const uint32_t place = below(20);
    if (place == 0) {
      raw.resize(raw.size() - below(8) + below(8));
    } else if (place == 1) {
      raw[below(raw.size())] = static_cast<std::byte>(random());
    } else {
      const size_t at = below(raw.size() / 4 - 1) * size_t{4};
      uint32_t word;
      std::memcpy(&word, raw.data() + at, 4);
      switch (below(8)) {
        case 0:
          word ^= 1U << below(32);
          break;
        case 1:
          word = below(40);
          break;
        case 2:
          word += below(9) - 4;
          break;
        case 3:
          word = (word & 0xe0ffffff) | below(21) << 24;
          break;
        case 4:
          word = (word & 0xffff0000) | below(4);
          break;
        case 5:
          word ^= 1U << 31;
          break;
        case 6:
          word = static_cast<uint32_t>(random());
          break;
        default:
          word *= 8;
      }
      std::memcpy(raw.data() + at, &word, 4);
    }
  }
}

TEST(BtfOracle, DamagedBtfFailsAlike) {
  if (kernel_refuses()) GTEST_SKIP() << "the kernel refuses bpf(2) here";
  const char* given = std::getenv("SKEP_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  const char* rounds_given = std::getenv("SKEP_BTF_ROUNDS");
  const uint64_t rounds = rounds_given != nullptr ? std::strtoull(rounds_given, nullptr, 0) : 30'000;
  SCOPED_TRACE("SKEP_SEED=" + std::to_string(seed));
  const auto whole = btf_of_every_kind();
  uint64_t differing = 0, accepted = 0;
  for (uint64_t i = 0; i < rounds && differing < 5; ++i) {
    std::mt19937_64 random(seed + i);
    auto raw = whole;
    damage(raw, random);
    const int ours = skep_error(raw), theirs = kernel_error(raw);
    accepted += theirs == 0;
    if (ours == theirs) continue;
    ++differing;
    VerifierLog log(VerifierLog::kLevel1);
    (void)Btf::parse(raw, &log);
    ADD_FAILURE() << "SKEP_SEED=" << seed + i << ": kernel " << theirs << ", skep " << ours << "\nkernel:\n"
                  << kernel_log(raw) << "skep:\n"
                  << log.text();
  }
  EXPECT_GT(accepted, rounds / 100) << "the damage is too great to test anything but the header";
}

TEST(BtfOracle, WholeBtfIsAccepted) {
  if (kernel_refuses()) GTEST_SKIP() << "the kernel refuses bpf(2) here";
  EXPECT_EQ(kernel_error(btf_of_every_kind()), 0);
  EXPECT_EQ(skep_error(btf_of_every_kind()), 0);
}

}  // namespace
}  // namespace skep
