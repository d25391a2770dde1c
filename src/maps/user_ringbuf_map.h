// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "maps/map.h"
#include "maps/ringbuf_area.h"
#include "maps/ringbuf_bell.h"
#include "skep/abi.h"

namespace skep {

/// BPF_MAP_TYPE_USER_RINGBUF: samples from one client, which writes them into its mapping, to the programs that drain
/// it.
///
/// Layout: RingbufArea in the user window, with the roles swapped: the client writes the producer's page and the data,
///   programs the consumer position. Private window: | MapHeader | kControlOffset: Control |.
/// Operations: drain. COMMIT of each sample = the store of the consumer position behind it.
/// Invariants
///   U1 Only the holder of Control::drainer moves the consumer position.
///   U2 What the client writes is believed nowhere: positions and headers are read once and checked, the sample is
///      handed on with its checked length, and offsets are masked. What the client does to a sample while a program
///      reads it, it does to itself.
/// Ordering guarantees
///   O1 Who sees a producer position sees the samples before it (the client's release store, acquire load in drain).
///   O2 The client sees a consumer position only after the callback of that sample has returned.
/// Progress: drain never waits: a second one fails with EBUSY; the mark of a dead drainer is taken over.
/// Reclamation: none. A drainer that dies inside a callback leaves its sample to the next one, which gets it again.
/// Limits and errno: attributes as RINGBUF. drain: EINVAL for unknown flags, a producer position that is not 8-aligned,
///   a sample longer than what was advertised; E2BIG: longer than the ring; EBUSY.
/// Differences from the kernel: the two named under Reclamation and Progress; a raw mmap that avoids the preload
///   library can write the consumer position too: then samples are lost or repeated, nothing else.
class UserRingbufMap final : public Map {
 public:
  UserRingbufMap(MapSegments segments, Machine& machine);

  struct Sample {
    std::byte* data;
    uint32_t size;
  };
  static constexpr uint32_t kMaxSamples = 128 * 1024;  // per drain

  /// bpf_user_ringbuf_drain(): gives each sample to `consume(sample)` until it returns false; how many it got, or a
  /// negative errno.
  template <class Consume>
  int64_t drain(const Lease& lease, uint64_t flags, const Consume& consume) {
    if ((flags & ~uint64_t{BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP}) != 0) return -EINVAL;
    if (!lock_drainer(lease)) return -EBUSY;
    int64_t samples = 0;
    int error = 0;
    bool wanted = true;
    for (uint32_t i = 0; i < kMaxSamples && wanted; ++i) {
      Sample sample;
      const Peek found = peek(sample, error);
      if (found == Peek::kNothing) break;
      if (found == Peek::kSample) {
        ++samples;
        wanted = consume(sample);
      }
      release(sample);
    }
    unlock_drainer(flags, samples);
    return error != 0 ? -error : samples;
  }

  /// Whether poll(2) finds the ring writable: it is not full.
  [[nodiscard]] bool writable() const;
  [[nodiscard]] RingbufBell& bell() { return bell_; }
  [[nodiscard]] const RingbufArea& area() const { return area_; }
  [[nodiscard]] CheckReport check() const override;

  struct Control {
    alignas(64) std::atomic<uint64_t> drainer;  // tag and slot of who drains, 0 free
    RingbufBell::State bell;
  };

 private:
  enum class Peek { kNothing, kDiscarded, kSample };
  Peek peek(Sample& sample, int& error) const;
  void release(const Sample& sample);
  bool lock_drainer(const Lease& lease);
  void unlock_drainer(uint64_t flags, int64_t samples);

  Control& control_;
  const RingbufArea area_;
  RingbufBell bell_;
};

}  // namespace skep
