// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "prog/context.h"

namespace skep {

/// The context of a run as the program sees it: the address in R1 at its start, and what loads and stores there mean.
///
/// For packet programs the context is not memory: as in the kernel each access names a field of __sk_buff or xdp_md by
/// its offset, and the program's type decides which fields it may read or write and in which sizes. A 4-byte load of
/// data, data_end or data_meta gives the full 64-bit pointer. Other types see bytes, aligned accesses only.
class ContextAccess {
 public:
  void reset(const RunContext& context, uint32_t program_type, uint32_t expected_attach_type);

  /// What R1 holds when the program starts.
  [[nodiscard]] uint64_t address() const { return address_; }
  [[nodiscard]] bool contains(uint64_t address) const { return address - address_ < size_; }
  [[nodiscard]] SkbContext* skb() const { return skb_; }
  [[nodiscard]] XdpContext* xdp() const { return xdp_; }

  /// Which packet bytes the program may access directly: none, readable, or writable too.
  enum class PacketAccess { kNone, kRead, kWrite };
  [[nodiscard]] PacketAccess packet_access() const;
  [[nodiscard]] const PacketBuffer* packet() const;

  /// False: this program type may not access that field so.
  [[nodiscard]] bool load(uint64_t address, uint32_t size, uint64_t& value) const;
  [[nodiscard]] bool store(uint64_t address, uint32_t size, uint64_t value);

 private:
  [[nodiscard]] bool load_skb(uint32_t offset, uint32_t size, uint64_t& value) const;
  [[nodiscard]] bool store_skb(uint32_t offset, uint32_t size, uint64_t value);
  [[nodiscard]] bool load_xdp(uint32_t offset, uint32_t size, uint64_t& value) const;

  uint64_t address_ = 0;
  uint32_t size_ = 0;
  uint32_t type_ = 0;
  uint32_t expected_attach_type_ = 0;
  SkbContext* skb_ = nullptr;
  XdpContext* xdp_ = nullptr;
  BytesContext* bytes_ = nullptr;
};

}  // namespace skep
