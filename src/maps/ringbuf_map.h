// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "machine/crash_point.h"
#include "maps/map.h"
#include "maps/ringbuf_area.h"
#include "maps/ringbuf_bell.h"
#include "skep/abi.h"

namespace skep {

/// BPF_MAP_TYPE_RINGBUF: records of any length in order, from any number of programs in any number of processes to one
/// consumer that reads them in place.
///
/// Layout
///   user window:    RingbufArea (what libbpf's ring_buffer maps)
///   private window: | MapHeader | kControlOffset: Control | Intent of slot 0 | Intent of slot 1 | ... |
///   A record:  u32 length, kBusy until it is submitted, kDiscard | u32 tag of the owner's process | data | to 8 bytes
///
///   positions:   pending <= producer <= limit <= min(consumer, pending) + size - 8
///   data:        | committed, discarded, busy records | prepared: every 8 bytes a header "nameless"       | not yet |
///                 ^ consumer                          ^ producer                                         ^ limit
///   nameless:    kBusy, no owner, and in place of the length how often the positions have gone round the ring
///
/// Operations
///   reserve   COMMIT = the compare-and-swap of the producer position; then the header names length and owner
///   submit    COMMIT = the store of the header's state; also discard
///   output    reserve, copy, submit
///   query     one or two loads
///   prepare   (inside reserve, once per kBatch bytes) advances pending over finished records and raises the limit
///
/// Invariants
///   R1 Every aligned 8 bytes of [producer, limit) are nameless(their position). So a record is busy for consumers from
///      the moment the producer position passes it, before its owner has written anything; and no place reads the same
///      twice, so what is found out about a nameless record can be said by a compare-and-swap of its header.
///   R2 limit - 8 and everything before it is free: the consumer has passed what was there a lap ago, and so have all
///      its owners (pending). With BPF_F_RB_OVERWRITE the overwrite position stands for the consumer's.
///   R3 Only the holder of Control::preparer raises the limit and moves pending and the overwrite position.
///   R4 While a record lies in front of pending its owner alone writes it, unless the owner's process is dead.
///   R5 Whoever swaps the producer position has written start and length into its slot's Intent before, and changes it
///      only after the header names its owner. So a nameless record finds its owner in an Intent. A dead one's Intent
///      is overwritten only when it is known which record, if any, it stands for.
/// Ordering guarantees
///   O1 Who sees a producer position sees a header for every record before it (R1; the limit's release store pairs with
///      the acquire load in reserve, the compare-and-swap with the consumer's acquire load).
///   O2 Who sees a record's state without kBusy sees its data (release store in finish).
///   O3 Records of one thread are in the order of its reserves.
///   O4 No wake-up is lost: a sleeper has found the ring empty after it said so (RingbufBell), so the first record
///   after
///      that begins at the consumer position, and its owner looks at the word after its locked swap.
/// Progress: reserve is lock-free while prepared room is left; else one preparer works and the others wait for it, at
///   most Waiter::kLimitNanoseconds if it is stopped and not at all once it is dead. submit is wait-free.
/// Reclamation: none. The record of a dead process becomes kDiscard at the hands of the next preparer that meets it, of
/// a
///   consumer that waits (help_consumer), or of the next tenant of its slot.
/// Locks and their order: preparer alone.
/// Limits and errno: max_entries a power of two of whole pages, else EINVAL; a record takes length + 8 bytes rounded up
///   to 8, and one byte of the ring is always free, so at most size - 16 bytes of data; no room: nullptr, EAGAIN for
///   output.
/// Differences from the kernel: a record whose owner died is discarded; room that was prepared stays usable although a
///   client moves the consumer position back; the mirror is not the data itself (RingbufArea).
class RingbufMap final : public Map {
 public:
  RingbufMap(MapSegments segments, Machine& machine);

  /// bpf_ringbuf_reserve(): `size` writable bytes of a record of the caller's, 8-aligned; null where there is no room.
  [[nodiscard]] std::byte* reserve(const Lease& lease, uint64_t size);
  /// bpf_ringbuf_submit(), bpf_ringbuf_discard() of what reserve() gave to this process; once. Flags: BPF_RB_*.
  void submit(std::byte* record, uint64_t flags) { finish(record, flags, 0); }
  void discard(std::byte* record, uint64_t flags) { finish(record, flags, ringbuf::kDiscard); }
  /// bpf_ringbuf_output(). EINVAL: unknown flags; EAGAIN: no room.
  Status output(const Lease& lease, const void* data, uint64_t size, uint64_t flags);
  /// bpf_ringbuf_query(): BPF_RB_*; 0 for what it does not know.
  [[nodiscard]] uint64_t query(uint64_t what) const;

  /// Whether poll(2) finds the ring readable: records, committed or not, that the consumer has not passed.
  [[nodiscard]] bool readable() const { return query(0) != 0; }
  /// If the record that the consumer waits for belongs to a dead process, it is discarded.
  void help_consumer();
  [[nodiscard]] RingbufBell& bell() { return bell_; }
  [[nodiscard]] const RingbufArea& area() const { return area_; }

  [[nodiscard]] CheckReport check() const override;

  struct alignas(64) Intent {
    std::atomic<uint64_t> position;  // where the slot's holder last tried to reserve; kNoPosition: gave up
    std::atomic<uint64_t> owner;     // its tag (upper 32 bits) and the record's length
  };
  struct Control {
    alignas(64) std::atomic<uint64_t> limit;     // see above
    alignas(64) std::atomic<uint64_t> preparer;  // tag and slot of who prepares, 0 free
    RingbufBell::State bell;
  };
  static constexpr uint64_t kNoPosition = UINT64_MAX;

 private:
  static constexpr uint64_t kBatch = 8192;  // bytes prepared at a time, so that the headers passed are still in cache

  [[nodiscard]] std::byte* claim(Intent& intent, uint64_t tag, uint64_t size);
  [[nodiscard]] std::byte* reserve_slowly(const Lease& lease, uint64_t size);
  [[nodiscard]] uint64_t nameless(uint64_t position) const {
    return ringbuf::kBusy | ((position >> lap_shift_) & ringbuf::kLengthMask);
  }
  void finish(std::byte* record, uint64_t flags, uint32_t state);
  void notify(uint64_t position, uint64_t flags);
  [[nodiscard]] bool settle_predecessor(const Intent& intent);
  bool make_room(const Lease& lease, uint64_t length);
  bool lock_preparer(const Lease& lease);
  bool prepare(uint64_t length);
  [[nodiscard]] uint64_t pass_finished(uint64_t position, uint64_t end);
  [[nodiscard]] uint64_t give_way(uint64_t position, uint64_t pending, uint64_t wanted) const;
  void fill(uint64_t from, uint64_t to);
  bool abandoned(uint64_t position, uint64_t header, uint64_t end);
  [[nodiscard]] uint64_t length_of_nameless(uint64_t position, uint64_t end) const;
  [[nodiscard]] bool chain_ends(uint64_t position, uint64_t end) const;
  [[nodiscard]] bool wanted(uint64_t position) const;

  Control& control_;
  Intent* const intents_;
  const RingbufArea area_;
  const bool overwrites_;
  const int lap_shift_;
  RingbufBell bell_;
};

inline std::byte* RingbufMap::reserve(const Lease& lease, uint64_t size) {
  if (size > ringbuf::kLengthMask) return nullptr;
  const uint64_t tag = lease.process().value;
  Intent& intent = intents_[lease.slot()];
  if (intent.owner.load(std::memory_order_relaxed) >> 32 != tag) [[unlikely]]
    return reserve_slowly(lease, size);
  std::byte* const record = claim(intent, tag, size);
  return record != nullptr ? record : reserve_slowly(lease, size);
}

/// A record in the prepared room; null: there is not enough of that.
inline std::byte* RingbufMap::claim(Intent& intent, uint64_t tag, uint64_t size) {
  const uint64_t length = ringbuf::footprint(size);
  uint64_t position = area_.producer().load(std::memory_order_relaxed);
  for (;;) {
    // Pairs with the release store in prepare(). More room than the ring has: a client made the position up.
    const uint64_t room = control_.limit.load(std::memory_order_acquire) - position;
    if (room < length || room > area_.size()) [[unlikely]]
      return nullptr;
    intent.owner.store(tag << 32 | size, std::memory_order_release);  // pairs with length_of_nameless()
    commit(intent.position, position);
    // COMMIT. Pairs with the acquire loads of consumers; a full barrier, which RingbufBell asks for.
    if (area_.producer().compare_exchange_weak(position, position + length, std::memory_order_seq_cst,
                                               std::memory_order_relaxed)) {
      SKEP_CRASH_POINT();
      commit(area_.header(position), tag << 32 | ringbuf::kBusy | size);
      return area_.data(position);
    }
  }
}

}  // namespace skep
