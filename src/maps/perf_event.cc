// SPDX-License-Identifier: Apache-2.0
#include "maps/perf_event.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

namespace skep {
namespace {

static_assert(sizeof(perf_event_mmap_page) <= kPageSize && sizeof(perf_event_header) == 8);

constexpr uint64_t kLargestRecord = 65528;
constexpr uint32_t kLostBody = 16;  // id, how many

constexpr uint64_t kEightByteFields = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
                                      PERF_SAMPLE_ADDR | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU |
                                      PERF_SAMPLE_PERIOD;
/// What a record that is no sample carries at its end, if it carries anything.
constexpr uint64_t kIdentifying = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID |
                                  PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER;

uint64_t now_ns() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t eight_bytes_each(uint64_t fields) { return static_cast<uint64_t>(std::popcount(fields)) * 8; }

uint64_t own_task() {
  return static_cast<uint32_t>(::getpid()) | static_cast<uint64_t>(static_cast<uint32_t>(::gettid())) << 32;
}

}  // namespace

/// Writes into the ring from a position on, going round its end.
class PerfEvent::Record {
 public:
  Record(std::byte* ring, uint64_t size, uint64_t position) : ring_(ring), size_(size), position_(position) {}

  void put(const void* from, uint64_t length) {
    const uint64_t offset = position_ & (size_ - 1);
    const uint64_t first = std::min(length, size_ - offset);
    std::memcpy(ring_ + offset, from, first);
    if (first < length) std::memcpy(ring_, static_cast<const std::byte*>(from) + first, length - first);
    position_ += length;
  }
  void put(uint64_t word) { put(&word, sizeof word); }
  void put_header(uint32_t type, uint16_t misc, uint64_t size) {
    const perf_event_header header = {.type = type, .misc = misc, .size = static_cast<uint16_t>(size)};
    put(&header, sizeof header);
  }
  void put(std::span<const std::byte> bytes) {
    if (!bytes.empty()) put(bytes.data(), bytes.size());
  }
  void pad() {
    constexpr uint64_t kZeros = 0;
    put(&kZeros, -position_ & 7);
  }

 private:
  std::byte* const ring_;
  const uint64_t size_;
  uint64_t position_;
};

bool PerfEvent::can_sample(uint64_t sample_type) { return (sample_type & ~(kEightByteFields | PERF_SAMPLE_RAW)) == 0; }

Status PerfEvent::initialise(int fd, const PerfEventSpec& spec) {
  if (::ftruncate(fd, static_cast<off_t>(kHeaderOffset + kPrivateSize)) != 0) {
    return fail_because(ENOMEM, std::string("cannot size the event's file: ") + std::strerror(errno));
  }
  auto control = Segment::map(fd, kHeaderOffset, kPrivateSize, Access::kReadWrite);
  if (!control) return std::unexpected(control.error());
  auto page = Segment::map(fd, 0, kPageSize, Access::kReadWrite);
  if (!page) return std::unexpected(page.error());
  if (const Status reserved = control->reserve(0, kPrivateSize); !reserved) return reserved;
  if (const Status reserved = page->reserve(0, kPageSize); !reserved) return reserved;
  auto& header = *reinterpret_cast<Header*>(control->data());
  header.file = make_file_header(ObjectKind::kPerfEvent, kPageSize + kMostData, kPrivateSize);
  header.spec = spec;
  header.shared.telling_until.store(kNone, std::memory_order_relaxed);
  header.shared.enabled.store(spec.enabled, std::memory_order_relaxed);
  header.shared.enabled_at.store(now_ns(), std::memory_order_relaxed);
  return {};
}

void PerfEvent::store_id(int fd, uint32_t id) {
  const auto control = Segment::map(fd, kHeaderOffset, kPrivateSize, Access::kReadWrite);
  if (control) reinterpret_cast<FileHeader*>(control->data())->id = id;
}

Result<std::unique_ptr<PerfEvent>> PerfEvent::open(int fd, Machine& machine) {
  const auto file = read_file_header(fd, ObjectKind::kPerfEvent);
  if (!file) return std::unexpected(file.error());
  if (file->private_size != kPrivateSize || file->user_size != kPageSize + kMostData) {
    return fail_because(EINVAL, "the event's header states impossible sizes");
  }
  auto control = Segment::map(fd, kHeaderOffset, kPrivateSize, Access::kReadWrite);
  if (!control) return std::unexpected(control.error());
  auto user = Segment::map(fd, 0, kPageSize + kMostData, Access::kReadWrite);
  if (!user) return std::unexpected(user.error());
  std::unique_ptr<PerfEvent> event(new PerfEvent(*std::move(user), *std::move(control), machine));
  if (event->spec().cpu >= machine.cpus() || !can_sample(event->spec().sample_type)) {
    return fail_because(EINVAL, "the event's header holds attributes that no event has");
  }
  return event;
}

PerfEvent::PerfEvent(Segment user, Segment control, Machine& machine)
    : user_(std::move(user)),
      control_(std::move(control)),
      machine_(machine),
      shared_(header().shared),
      bell_(shared_.bell, machine_, header().file.id, false, "event-") {}

std::atomic<uint64_t>& PerfEvent::head() const {
  return *reinterpret_cast<std::atomic<uint64_t>*>(user_.data() + offsetof(perf_event_mmap_page, data_head));
}
std::atomic<uint64_t>& PerfEvent::tail() const {
  return *reinterpret_cast<std::atomic<uint64_t>*>(user_.data() + offsetof(perf_event_mmap_page, data_tail));
}

uint64_t PerfEvent::fixed_size() const {
  return sizeof(perf_event_header) + eight_bytes_each(spec().sample_type & kEightByteFields);
}

int PerfEvent::output(const Lease& lease, std::span<const std::byte> data, std::span<const std::byte> more) {
  if (shared_.enabled.load(std::memory_order_relaxed) == 0 || lease.cpu() != spec().cpu) return EOPNOTSUPP;
  const uint64_t tag = lease.process().value;
  const uint64_t before = shared_.writer.load(std::memory_order_relaxed);
  if (before == tag) return EBUSY;
  shared_.writer.store(tag, std::memory_order_relaxed);
  // A signal handler of this thread that comes from here on is told EBUSY; one that came before has finished.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (before != 0) wake(head().load(std::memory_order_relaxed), 0);  // owed by a writer that died
  SKEP_CRASH_POINT();
  const int error = write(lease, data, more);
  commit(shared_.writer, uint64_t{0});
  return error;
}

int PerfEvent::write(const Lease&, std::span<const std::byte> data, std::span<const std::byte> more) {
  const uint64_t data_size = std::min(shared_.data_size.load(std::memory_order_acquire), kMostData);
  if (data_size == 0) return ENOSPC;
  const uint64_t raw = (spec().sample_type & PERF_SAMPLE_RAW) != 0
                           ? round_up(sizeof(uint32_t) + data.size() + more.size(), sizeof(uint64_t))
                           : 0;
  const uint64_t size = fixed_size() + raw;
  if (size > kLargestRecord) return E2BIG;

  const uint64_t begin = head().load(std::memory_order_relaxed) & ~uint64_t{7};
  const uint64_t failed = shared_.failed.load(std::memory_order_relaxed);
  const uint64_t lost = failed - told();
  const uint64_t trailer = spec().sample_id_all != 0 ? eight_bytes_each(spec().sample_type & kIdentifying) : 0;
  const uint64_t lost_size = lost == 0 ? 0 : sizeof(perf_event_header) + kLostBody + trailer;
  const uint64_t wanted = size + lost_size;
  // Acquire: what the consumer has read there is read (O2).
  const uint64_t room = shared_.overwrites.load(std::memory_order_relaxed) != 0
                            ? data_size - 1
                            : (tail().load(std::memory_order_acquire) - begin - 1) & (data_size - 1);
  if (wanted > room || shared_.paused.load(std::memory_order_relaxed) != 0) {
    commit(shared_.failed, failed + 1);
    return ENOSPC;
  }

  Record record(user_.data() + kPageSize, data_size, begin);
  const uint64_t end = begin + wanted;
  if (lost != 0) {
    const uint64_t told_before = told();
    commit(shared_.told, told_before);
    commit(shared_.telling_until, kNone);
    commit(shared_.telling, failed);
    commit(shared_.telling_until, end);
    tell_lost(record, lost_size, lost);
  }
  SKEP_CRASH_POINT();
  sample(record, size, data, more);
  commit(head(), end);  // COMMIT
  wake(end, data_size);
  return 0;
}

void PerfEvent::sample(Record& record, uint64_t size, std::span<const std::byte> data,
                       std::span<const std::byte> more) const {
  const uint64_t type = spec().sample_type;
  record.put_header(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_KERNEL, size);
  if (type != PERF_SAMPLE_RAW) {
    const uint64_t own_id = id();
    if ((type & PERF_SAMPLE_IDENTIFIER) != 0) record.put(own_id);
    if ((type & PERF_SAMPLE_IP) != 0) record.put(uint64_t{0});
    if ((type & PERF_SAMPLE_TID) != 0) record.put(own_task());
    if ((type & PERF_SAMPLE_TIME) != 0) record.put(now_ns());
    if ((type & PERF_SAMPLE_ADDR) != 0) record.put(uint64_t{0});
    if ((type & PERF_SAMPLE_ID) != 0) record.put(own_id);
    if ((type & PERF_SAMPLE_STREAM_ID) != 0) record.put(own_id);
    if ((type & PERF_SAMPLE_CPU) != 0) record.put(uint64_t{spec().cpu});
    if ((type & PERF_SAMPLE_PERIOD) != 0) record.put(uint64_t{0});
    if ((type & PERF_SAMPLE_RAW) == 0) return;
  }
  const auto raw = static_cast<uint32_t>(size - fixed_size() - sizeof(uint32_t));
  record.put(&raw, sizeof raw);
  record.put(data);
  record.put(more);
  record.pad();
}

void PerfEvent::tell_lost(Record& record, uint64_t size, uint64_t lost) const {
  const uint64_t type = spec().sample_type;
  record.put_header(PERF_RECORD_LOST, 0, size);
  record.put(uint64_t{id()});
  record.put(lost);
  if (spec().sample_id_all == 0) return;
  if ((type & PERF_SAMPLE_TID) != 0) record.put(own_task());
  if ((type & PERF_SAMPLE_TIME) != 0) record.put(now_ns());
  if ((type & PERF_SAMPLE_ID) != 0) record.put(uint64_t{id()});
  if ((type & PERF_SAMPLE_STREAM_ID) != 0) record.put(uint64_t{id()});
  if ((type & PERF_SAMPLE_CPU) != 0) record.put(uint64_t{spec().cpu});
  if ((type & PERF_SAMPLE_IDENTIFIER) != 0) record.put(uint64_t{id()});
}

/// A record that ends at `position` is there. `data_size` 0: wake in any case.
void PerfEvent::wake(uint64_t position, uint64_t data_size) {
  bool due = data_size == 0;
  const uint32_t wakeup = spec().wakeup;
  if (spec().watermark == 0 && wakeup != 0) {
    const uint64_t records = shared_.unwoken.load(std::memory_order_relaxed) + 1;
    due |= records >= wakeup;
    shared_.unwoken.store(records >= wakeup ? 0 : records, std::memory_order_relaxed);
  }
  const uint64_t half = data_size / 2;
  const uint64_t bytes = spec().watermark != 0 && wakeup != 0 ? std::min<uint64_t>(wakeup, data_size) : half;
  const uint64_t mark = shared_.mark.load(std::memory_order_relaxed);
  if (position - mark > bytes) {
    // Somebody may have written anything into the page.
    shared_.mark.store(position - mark > 2 * data_size ? position : mark + bytes, std::memory_order_relaxed);
    due = true;
  }
  if (!due) return;
  // A full barrier before the look at the bell (O3).
  shared_.woken.exchange(position, std::memory_order_seq_cst);
  SKEP_CRASH_POINT();
  if (bell_.awaited()) bell_.ring();
}

uint64_t PerfEvent::told() const {
  const uint64_t until = shared_.telling_until.load(std::memory_order_relaxed);
  const bool committed = until != kNone && static_cast<int64_t>(head().load(std::memory_order_relaxed) - until) >= 0;
  return (committed ? shared_.telling : shared_.told).load(std::memory_order_relaxed);
}

uint64_t PerfEvent::lost() const { return shared_.failed.load(std::memory_order_relaxed) - told(); }

PerfEvent::Times PerfEvent::times() const {
  uint64_t total = shared_.enabled_for.load(std::memory_order_relaxed);
  if (shared_.enabled.load(std::memory_order_relaxed) != 0)
    total += now_ns() - shared_.enabled_at.load(std::memory_order_relaxed);
  return {.enabled = total, .running = total};
}

void PerfEvent::enable(bool on) {
  const uint64_t now = now_ns();
  if ((shared_.enabled.exchange(on ? 1 : 0, std::memory_order_relaxed) != 0) == on) return;
  if (on) {
    shared_.enabled_at.store(now, std::memory_order_relaxed);
  } else {
    shared_.enabled_for.fetch_add(now - shared_.enabled_at.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

Status PerfEvent::map_ring(uint64_t data_size, bool overwrites, const std::function<bool()>& mapped,
                           const std::function<Status()>& hold) {
  if (data_size > kMostData) return fail(ENOMEM);
  // Before there is a ring no access may fail.
  if (const Status reserved = user_.reserve(0, kPageSize + data_size); !reserved) return reserved;
  const Lease lease(machine_, Lease::Cpu{spec().cpu});
  if (lease.cpu() != spec().cpu) return fail(EDEADLK);
  if (mapped()) return shared_.data_size.load(std::memory_order_relaxed) == data_size ? hold() : fail(EINVAL);
  shared_.data_size.store(0, std::memory_order_relaxed);
  auto& page = *reinterpret_cast<perf_event_mmap_page*>(user_.data());
  std::memset(&page, 0, sizeof page);
  page.size = offsetof(perf_event_mmap_page, __reserved);
  page.capabilities = 2;  // cap_bit0_is_deprecated, as every kernel of this decade
  page.data_offset = kPageSize;
  page.data_size = data_size;
  shared_.paused.store(0, std::memory_order_relaxed);
  shared_.failed.store(0, std::memory_order_relaxed);
  shared_.told.store(0, std::memory_order_relaxed);
  shared_.telling_until.store(kNone, std::memory_order_relaxed);
  shared_.unwoken.store(0, std::memory_order_relaxed);
  shared_.mark.store(0, std::memory_order_relaxed);
  shared_.woken.store(0, std::memory_order_relaxed);
  shared_.overwrites.store(overwrites ? 1 : 0, std::memory_order_relaxed);
  shared_.data_size.store(data_size, std::memory_order_release);  // pairs with write()
  return hold();
}

bool PerfEvent::readable() const {
  const uint64_t woken = shared_.woken.load(std::memory_order_acquire);
  return woken != 0 && static_cast<int64_t>(woken - tail().load(std::memory_order_relaxed)) > 0;
}

void PerfEvent::help_consumer() {
  uint64_t writer = shared_.writer.load(std::memory_order_acquire);
  const ProcessTag tag{static_cast<uint32_t>(writer)};
  if (writer == 0 || tag == machine_.self() || machine_.alive(tag)) return;
  // Not under the lease, which a process that does not move may hold. Writers who come meanwhile do the same.
  const uint64_t position = head().load(std::memory_order_acquire);
  uint64_t woken = shared_.woken.load(std::memory_order_relaxed);
  while (static_cast<int64_t>(position - woken) > 0 && !shared_.woken.compare_exchange_weak(woken, position)) {
  }
  if (bell_.awaited()) bell_.ring();
  shared_.writer.compare_exchange_strong(writer, 0);
}

}  // namespace skep
