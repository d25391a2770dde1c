// SPDX-License-Identifier: Apache-2.0
#include "preload/ring_watches.h"

#include <poll.h>
#include <pthread.h>
#include <skep/abi.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "machine/reader_section.h"
#include "maps/ringbuf_map.h"
#include "maps/user_ringbuf_map.h"
#include "preload/high_descriptor.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "syscall/perf_events.h"
#include "syscall/process.h"

namespace skep::preload {

constinit std::atomic<uint32_t> watched_rings{0};

namespace {

struct Watch {
  int fd;
  int bell;
  std::shared_ptr<const OpenObject> object;  // a ring or a perf event
};

struct Watches {
  QuietMutex mutex;  // held across fork(2), so that the child inherits a whole list
  std::vector<Watch> list;
};

Watches& watches() {
  static Watches* const all = [] {
    ::pthread_atfork([] { watches().mutex.lock(); }, [] { watches().mutex.unlock(); },
                     [] { watches().mutex.unlock(); });
    return new Watches;
  }();
  return *all;
}

bool is_ring_type(uint32_t type) { return type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_USER_RINGBUF; }

bool is_watched_kind(const OpenObject& object) {
  return object.kind == ObjectKind::kPerfEvent || (object.kind == ObjectKind::kMap && is_ring_type(object.type));
}

/// Whether the descriptor is a ring that skep has met already: libraries ask for its attributes first.
bool is_known_ring(int fd) {
  // Without a section, which is not for signal handlers in threads that have never used skep.
  if (fd < 0 || !serving() || start()->descriptors.believed(fd) == nullptr) return false;
  const ReaderSection section(start()->machine);
  const OpenObject* const object = start()->descriptors.believed(fd);
  return object != nullptr && is_watched_kind(*object);
}

uint32_t events_never(const OpenObject& object) {
  return object.kind == ObjectKind::kPerfEvent || object.type == BPF_MAP_TYPE_RINGBUF ? POLLOUT | POLLWRNORM
                                                                                      : POLLIN | POLLRDNORM | POLLPRI;
}

RingWatch describe(const Watch& watch) {
  return {.bell = watch.bell, .never = events_never(*watch.object), .error = 0};
}

template <class Ring>
void tell(Ring& ring, int bell, bool (Ring::*ready)() const) {
  // Who may not write into the map cannot announce a sleep; he looks again every RingbufBell::kLookAgain.
  if (!ring.segments().control.writable()) return ring.bell().set(bell, (ring.*ready)());
  ring.bell().tell(bell, [&] { return (ring.*ready)(); });
}

void tell(const Watch& watch) {
  if (watch.object->kind == ObjectKind::kPerfEvent) {
    PerfEvent& event = event_of(*watch.object);
    event.help_consumer();
    return event.bell().tell(watch.bell, [&] { return event.readable(); });
  }
  Map& map = *watch.object->map;
  if (map.spec().type == BPF_MAP_TYPE_USER_RINGBUF) {
    return tell(static_cast<UserRingbufMap&>(map), watch.bell, &UserRingbufMap::writable);
  }
  auto& ring = static_cast<RingbufMap&>(map);
  if (ring.segments().user.writable()) ring.help_consumer();
  tell(ring, watch.bell, &RingbufMap::readable);
}

const RingbufBell& bell_of(const OpenObject& object) {
  if (object.kind == ObjectKind::kPerfEvent) return event_of(object).bell();
  Map& map = *object.map;
  return map.spec().type == BPF_MAP_TYPE_RINGBUF ? static_cast<RingbufMap&>(map).bell()
                                                 : static_cast<UserRingbufMap&>(map).bell();
}

RingWatch begin_watch(int fd, Watches& all) {
  const auto object = start()->descriptors.share(fd);
  if (!object || !is_watched_kind(**object)) return {};
  const int opened = bell_of(**object).open();
  if (opened < 0) return {.bell = -1, .never = 0, .error = errno == 0 ? ENOMEM : errno};
  all.list.push_back({.fd = fd, .bell = move_high(opened), .object = *object});
  watched_rings.store(static_cast<uint32_t>(all.list.size()));
  tell(all.list.back());  // for threads that sleep on the epoll set already
  return describe(all.list.back());
}

}  // namespace

RingWatch watch_ring(int fd, bool make) {
  if (!is_known_ring(fd)) return {};
  Watches& all = watches();
  const std::scoped_lock lock(all.mutex);
  const auto found = std::ranges::find(all.list, fd, &Watch::fd);
  if (found != all.list.end()) return describe(*found);
  return make ? begin_watch(fd, all) : RingWatch{};
}

void ring_bells() {
  const int saved_errno = errno;
  Watches& all = watches();
  const std::scoped_lock lock(all.mutex);
  for (const Watch& watch : all.list) tell(watch);
  errno = saved_errno;
}

void forget_rings(unsigned first, unsigned last) {
  if (watched_rings.load(std::memory_order_relaxed) == 0) return;
  const auto concerned = [=](const Watch& watch) {
    const auto fd = static_cast<unsigned>(watch.fd);
    const auto bell = static_cast<unsigned>(watch.bell);
    return (fd >= first && fd <= last) || (bell >= first && bell <= last);
  };
  Watches& all = watches();
  const std::scoped_lock lock(all.mutex);
  for (const Watch& watch : all.list) {
    const auto bell = static_cast<unsigned>(watch.bell);
    if (concerned(watch) && (bell < first || bell > last)) real::close(watch.bell);
  }
  std::erase_if(all.list, concerned);
  watched_rings.store(static_cast<uint32_t>(all.list.size()));
}

}  // namespace skep::preload
