// SPDX-License-Identifier: Apache-2.0
#include "storage/charge.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>

namespace skep {
namespace {

constexpr uint32_t kSocketElement = 72;
constexpr uint32_t kSocketStorage = 176;
constexpr uint64_t kDefaultOptmemMax = 131072;

/// net.core.optmem_max of this network namespace.
uint64_t read_optmem_max() {
  const int fd = ::open("/proc/sys/net/core/optmem_max", O_RDONLY | O_CLOEXEC);
  std::array<char, 32> text{};
  const ssize_t length = fd < 0 ? -1 : ::read(fd, text.data(), text.size());
  if (fd >= 0) ::close(fd);
  uint64_t value = kDefaultOptmemMax;
  if (length > 0) std::from_chars(text.data(), text.data() + length, value);
  return value;
}

/// The sum stays below it; asked of the host when an owner gets its first element and before anything is refused.
std::atomic<uint64_t> optmem_max{0};

}  // namespace

uint32_t ChargeRule::element(OwnerKind kind, uint32_t value_size) {
  return kind == OwnerKind::kSocket ? kSocketElement + value_size : static_cast<uint32_t>(round_up(value_size, 8)) + 8;
}

uint32_t ChargeRule::first_element(OwnerKind kind) { return kind == OwnerKind::kSocket ? kSocketStorage : 0; }

bool ChargeRule::allows(OwnerKind kind, uint64_t charged, uint64_t more, uint64_t limit) {
  if (kind != OwnerKind::kSocket) return limit == 0 || charged + more <= limit;
  const auto fits = [&](uint64_t most) { return more <= most && charged + more < most; };
  if (charged > 0 && fits(optmem_max.load(std::memory_order_relaxed))) return true;
  const uint64_t most = read_optmem_max();
  optmem_max.store(most, std::memory_order_relaxed);
  return fits(most);
}

}  // namespace skep
