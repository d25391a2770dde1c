// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "machine/crash_point.h"
#include "machine/lease.h"
#include "maps/ringbuf_bell.h"
#include "memory/file_header.h"
#include "memory/segment.h"

namespace skep {

/// What a perf event is opened with: the part of struct perf_event_attr that such an event heeds.
struct PerfEventSpec {
  uint64_t sample_type = 0;    // PERF_SAMPLE_*
  uint32_t cpu = 0;            // it takes the output of programs on this CPU
  uint32_t wakeup = 0;         // records (0: none), or, if `watermark`, bytes that wake whoever polls
  uint32_t watermark = 0;      // 0 or 1
  uint32_t sample_id_all = 0;  // 0 or 1: PERF_RECORD_LOST carries the identifying fields too
  uint32_t enabled = 1;        // 0 or 1: at first
};

/// A perf event of type PERF_TYPE_SOFTWARE, config PERF_COUNT_SW_BPF_OUTPUT, bound to a CPU: the ring that
/// bpf_perf_event_output() writes and one consumer reads, in perf's own layout.
///
/// Layout
///   user window:    | struct perf_event_mmap_page (one page) | data, a power of two of pages, first kMostData bytes |
///   private window: | FileHeader | PerfEventSpec | Shared |
///   A record:       struct perf_event_header | the fields of sample_type in perf's order | u32 size, data, to 8 bytes
///   positions:      tail <= head <= tail + data_size - 1, ever growing; a record goes round the end of the data
///
/// Operations
///   output     COMMIT = the store of data_head; the caller's program runs on the event's CPU
///   map_ring   gives the event its ring, at the first mapping of a client and again after the last was unmapped
///   enable, pause, reset_count
/// Invariants
///   P1 Who writes the ring (output, map_ring) has the lease of the event's CPU. So there is one writer, and
///      Shared::writer is only ever found set by a dead one or by the same thread's interrupted one.
///   P2 The data behind data_head is nobody's: a writer that dies before its commit leaves nothing.
///   P3 Nothing outside the two windows is touched, whatever a client writes into its page: positions are masked.
///   P4 lost() = how many outputs failed for want of room - how many a committed PERF_RECORD_LOST told of, at every
///      instant: what a LOST record tells counts as told as soon as data_head is past it (Shared::telling_*).
/// Ordering guarantees
///   O1 Who sees a data_head sees the records before it (release; pairs with the consumer's acquire load).
///   O2 A record is not overwritten before the consumer's release store of data_tail (acquire load in output).
///   O3 No wake-up is lost: a writer moves `woken` with a locked exchange, then looks whether anybody sleeps; a sleeper
///      announces itself, then looks at `woken` (RingbufBell). help_consumer() only ever raises `woken`.
/// Progress: wait-free. An output inside an output of the same thread (a signal handler) gives EBUSY.
/// Reclamation: the pages of the ring go with the event.
/// Locks: none but the lease.
/// Limits and errno (output): EOPNOTSUPP: not enabled, or of another CPU; E2BIG: a record of more than 65,528 bytes;
///   ENOSPC: no ring, no room, paused; EBUSY. A ring has at most kMostData bytes.
/// Differences from the kernel: too large a record is refused instead of written with a wrong length; the padding of a
///   record is zero; PERF_SAMPLE_IP is 0 and PERF_SAMPLE_TIME is CLOCK_MONOTONIC; the page's clock fields are 0; a
///   wake-up lasts until the consumer has passed the record that it was for, not until the first poll.
class PerfEvent {
 public:
  static constexpr uint64_t kMostData = uint64_t{64} << 20;

  /// Whether skep can be such an event: its sample_type has only fields that skep writes.
  [[nodiscard]] static bool can_sample(uint64_t sample_type);
  /// Makes the content of a new file: everything but the id in the header. ENOMEM.
  static Status initialise(int fd, const PerfEventSpec& spec);
  static void store_id(int fd, uint32_t id);
  /// EINVAL: not such a file.
  static Result<std::unique_ptr<PerfEvent>> open(int fd, Machine& machine);

  PerfEvent(const PerfEvent&) = delete;
  PerfEvent& operator=(const PerfEvent&) = delete;

  [[nodiscard]] uint32_t id() const { return header().file.id; }
  [[nodiscard]] const PerfEventSpec& spec() const { return header().spec; }

  /// A sample whose raw data are the two parts, one behind the other. 0 or an errno; see above.
  [[nodiscard]] int output(const Lease& lease, std::span<const std::byte> data, std::span<const std::byte> more);

  /// The event's count and how long it has counted, as bpf_perf_event_read_value() tells them. The count is always 0.
  struct Times {
    uint64_t enabled;  // nanoseconds
    uint64_t running;
  };
  [[nodiscard]] Times times() const;

  void enable(bool on);
  void pause(bool on) { shared_.paused.store(on ? 1 : 0, std::memory_order_relaxed); }

  /// Prepares for a client that maps one page and `data_size` bytes of data, some power of two of pages or 0.
  /// `overwrites`: the client cannot move the tail, so that new records replace the old ones. `mapped()` tells whether
  /// other mappings exist; `hold()` makes this one show there. Both are called while nobody else maps or writes the
  /// ring. EINVAL: it is mapped and of another size; ENOMEM. Waits for the lease of the event's CPU: not under a lease.
  Status map_ring(uint64_t data_size, bool overwrites, const std::function<bool()>& mapped,
                  const std::function<Status()>& hold);

  /// Whether a wake-up was given that the consumer has not answered.
  [[nodiscard]] bool readable() const;
  /// Gives the wake-up that a dead writer owed. Waits for nobody.
  void help_consumer();
  [[nodiscard]] RingbufBell& bell() { return bell_; }

  // -- for tests ----------------------------------------------------------------------------------------------------
  [[nodiscard]] uint64_t lost() const;
  [[nodiscard]] std::byte* user_window() const { return user_.data(); }

 private:
  struct Shared {
    alignas(64) std::atomic<uint64_t> data_size;  // bytes, 0: no ring
    std::atomic<uint32_t> overwrites;
    std::atomic<uint32_t> enabled;
    std::atomic<uint32_t> paused;
    std::atomic<uint64_t> enabled_at;   // CLOCK_MONOTONIC, while enabled
    std::atomic<uint64_t> enabled_for;  // before that
    // Of the writer:
    alignas(64) std::atomic<uint64_t> writer;  // its tag, 0 between outputs
    std::atomic<uint64_t> failed;              // outputs for which there was no room
    std::atomic<uint64_t> told;                // of these, how many LOST records told of before the one below
    std::atomic<uint64_t> telling_until;       // the data_head that commits the newest LOST record; kNone
    std::atomic<uint64_t> telling;             // told, once data_head is there
    std::atomic<uint64_t> unwoken;             // records since the last wake-up by count
    std::atomic<uint64_t> mark;                // data_head at the last wake-up by bytes
    std::atomic<uint64_t> woken;               // data_head at the last wake-up
    RingbufBell::State bell;
  };
  struct Header {
    FileHeader file;
    PerfEventSpec spec;
    Shared shared;
  };
  static constexpr uint64_t kNone = UINT64_MAX;
  static constexpr uint64_t kPrivateSize = kPageSize;
  static_assert(sizeof(Header) <= kPrivateSize);

  class Record;

  PerfEvent(Segment user, Segment control, Machine& machine);
  [[nodiscard]] Header& header() const { return *reinterpret_cast<Header*>(control_.data()); }
  [[nodiscard]] std::atomic<uint64_t>& head() const;
  [[nodiscard]] std::atomic<uint64_t>& tail() const;
  [[nodiscard]] uint64_t told() const;
  int write(const Lease& lease, std::span<const std::byte> data, std::span<const std::byte> more);
  void sample(Record& record, uint64_t size, std::span<const std::byte> data, std::span<const std::byte> more) const;
  void tell_lost(Record& record, uint64_t size, uint64_t lost) const;
  void wake(uint64_t position, uint64_t data_size);
  [[nodiscard]] uint64_t fixed_size() const;

  Segment user_;
  Segment control_;
  Machine& machine_;
  Shared& shared_;
  RingbufBell bell_;
};

}  // namespace skep
