// SPDX-License-Identifier: Apache-2.0
#include "maps/arena_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "machine/crash_point.h"
#include "maps/map_kinds.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr uint64_t kSpan = uint64_t{1} << 32;  // what a program addresses with the low half of a pointer
constexpr uint64_t kUpperHalf = ~(kSpan - 1);

Status check(const MapSpec& spec, const MachineShape&) {
  constexpr uint32_t kFlags = BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV;
  if (spec.key_size != 0 || spec.value_size != 0 || spec.max_entries == 0 || (spec.flags & BPF_F_MMAPABLE) == 0 ||
      (spec.flags & ~kFlags) != 0 || spec.extra % kPageSize != 0 || spec.fields.any()) {
    return fail(EINVAL);
  }
  const uint64_t size = spec.max_entries * kPageSize;
  if (size > kSpan) return fail(E2BIG);
  if (spec.extra >> 32 != (spec.extra + size - 1) >> 32) return fail(ERANGE);
  return {};
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.user_size = spec.max_entries * kPageSize;
  layout.private_size = kControlOffset + sizeof(ArenaMap::Control) + ArenaPages::bytes(spec.max_entries);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

Status initialise(const MapSegments& segments, Machine&) {
  const MapSpec& spec = segments.header().spec;
  auto& control = *reinterpret_cast<ArenaMap::Control*>(segments.control.data() + kControlOffset);
  if (spec.extra != 0) control.window.store(ArenaMap::pack(spec.extra, spec.max_entries), std::memory_order_relaxed);
  ArenaPages(&control + 1, spec.max_entries).initialise();
  return {};
}

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<ArenaMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kArenaKind = {.type = BPF_MAP_TYPE_ARENA,
                            .name = "arena",
                            .check_late = check,
                            .layout = layout,
                            .initialise = initialise,
                            .open = open,
                            .keyless = true,
                            .mmapable = true};

ArenaMap::ArenaMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      control_(*reinterpret_cast<Control*>(segments_.control.data() + kControlOffset)),
      pages_(&control_ + 1, spec().max_entries) {
  // Where the file system gives huge pages, one page that is allocated would make 511 others.
  madvise(segments_.user.data(), segments_.user.size(), MADV_NOHUGEPAGE);
}

Status ArenaMap::lookup(const void*, void*, uint64_t) const { return fail(EINVAL); }
Status ArenaMap::next_key(const void*, void*) const { return fail(EOPNOTSUPP); }
Status ArenaMap::update(const Lease&, const void*, const void*, uint64_t) { return fail(EOPNOTSUPP); }
Status ArenaMap::erase(const Lease&, const void*) { return fail(EOPNOTSUPP); }

bool ArenaMap::claim_window(uint64_t start, uint64_t pages) {
  uint64_t seen = 0;
  const uint64_t wanted = pack(start, pages);
  return control_.window.compare_exchange_strong(seen, wanted, std::memory_order_acq_rel) || seen == wanted;
}

// -- the lock and the work under it ---------------------------------------------------------------------------------

/// The arena's lock for its life, if it can be had. What a dead holder was about is completed first.
class ArenaMap::Hold {
 public:
  Hold(ArenaMap& arena, const Lease& lease) : arena_(arena), taken_(HolderLock::acquire(lease, arena.control_.lock)) {
    if (taken_ && *taken_ == HolderLock::Taken::kFromDead) arena_.complete_work();
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    if (taken_) HolderLock::release(arena_.control_.lock);
  }
  [[nodiscard]] bool held() const { return taken_.has_value(); }
  [[nodiscard]] Errno error() const { return taken_.error(); }

 private:
  ArenaMap& arena_;
  Result<HolderLock::Taken> taken_;
};

void ArenaMap::begin(Work work, uint32_t first, uint32_t count) {
  commit(control_.work, static_cast<uint64_t>(work) << 60 | uint64_t{count} << 30 | first);
}

void ArenaMap::end() { commit(control_.work, 0); }

/// Bears repeating: each step leaves `work` until all are done.
void ArenaMap::complete_work() {
  const uint64_t work = control_.work.load(std::memory_order_acquire);
  if (work == 0) return;
  const auto first = static_cast<uint32_t>(work & ((1U << 30) - 1));
  const auto count = static_cast<uint32_t>(work >> 30 & ((1U << 30) - 1));
  if (count > pages_.pages() || first > pages_.pages() - count) return end();
  const auto kind = static_cast<Work>(work >> 60);
  pages_.set_absent(first, count);
  SKEP_CRASH_POINT();
  // Nobody was told of pages that were being allocated, so nothing is lost.
  if (kind != Work::kReserve) segments_.user.give_back(first * kPageSize, count * kPageSize);
  SKEP_CRASH_POINT();
  if (kind == Work::kRelease) {
    pages_.give_back(first, count);
  } else {
    pages_.untake(first, count);
  }
  SKEP_CRASH_POINT();
  end();
}

// -- pages that exist -----------------------------------------------------------------------------------------------

uint32_t ArenaMap::find_memory(uint32_t first, uint32_t count) const {
  std::array<unsigned char, 256> resident;
  uint32_t found = first + count;
  for (uint32_t done = 0; done < count && found == first + count;) {
    const uint32_t part = std::min<uint32_t>(count - done, resident.size());
    if (mincore(segments_.user.data() + (first + done) * kPageSize, part * kPageSize, resident.data()) == 0) {
      for (uint32_t i = part; i-- > 0;) {
        if ((resident[i] & 1) != 0) found = first + done + i;
      }
    }
    done += part;
  }
  uint32_t out = 0;
  return swapped(first, count, out) ? std::min(found, out) : found;
}

/// The first of the pages that the file has, in memory or in swap space. False: there is none, or no swap space, or
/// the file has no name to open it by.
bool ArenaMap::swapped(uint32_t first, uint32_t count, uint32_t& found) const {
  struct sysinfo info {};
  if (sysinfo(&info) != 0 || info.totalswap == 0 || header().file.id == 0) return false;
  const std::string path = machine_.directory() + "/bpf-map/" + std::to_string(header().file.id);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  const off_t data = lseek(fd, static_cast<off_t>(first * kPageSize), SEEK_DATA);
  close(fd);
  if (data < 0 || static_cast<uint64_t>(data) >= (uint64_t{first} + count) * kPageSize) return false;
  found = static_cast<uint32_t>(static_cast<uint64_t>(data) / kPageSize);
  return true;
}

/// Taken before present: a death between the two leaves a page that is adopted again.
void ArenaMap::adopt(uint32_t page) {
  if (!pages_.is_taken(page)) pages_.take(page, 1);
  SKEP_CRASH_POINT();
  pages_.set_present(page, 1);
}

bool ArenaMap::touched(const Lease& lease, uint32_t page) {
  if (pages_.has(page)) return true;
  if (find_memory(page, 1) != page) return false;
  const Hold hold(*this, lease);
  if (!hold.held()) return false;
  // It may have been freed meanwhile.
  if (!pages_.has(page) && find_memory(page, 1) == page) adopt(page);
  return pages_.has(page);
}

// -- the kernel functions -------------------------------------------------------------------------------------------

uint64_t ArenaMap::allocate(const Lease& lease, uint64_t address, uint32_t count) {
  const Window where = window();
  if (count == 0 || count > where.pages || address % kPageSize != 0) return 0;
  if (address != 0 && page_of(address) > where.pages - count) return 0;
  const Hold hold(*this, lease);
  if (!hold.held()) return 0;
  uint32_t first;
  for (;;) {
    if (address != 0) {
      first = static_cast<uint32_t>(page_of(address));
      if (!pages_.all_free(first, count)) return 0;
    } else {
      const auto fit = pages_.best_fit(count);
      if (!fit) return 0;
      first = *fit;
    }
    const uint32_t existing = find_memory(first, count);
    if (existing == first + count) break;
    adopt(existing);
  }
  begin(Work::kAllocate, first, count);
  if (!segments_.user.reserve(first * kPageSize, count * kPageSize)) {
    segments_.user.give_back(first * kPageSize, count * kPageSize);
    end();
    return 0;
  }
  SKEP_CRASH_POINT();
  pages_.take(first, count);
  SKEP_CRASH_POINT();
  pages_.set_present(first, count);
  SKEP_CRASH_POINT();
  end();  // COMMIT
  return (where.start & kUpperHalf) + static_cast<uint32_t>(where.start + first * kPageSize);
}

void ArenaMap::release(const Lease& lease, uint64_t address, uint32_t count) {
  const Window where = window();
  const uint64_t from = (where.start & kUpperHalf) + (static_cast<uint32_t>(address) & ~(kPageSize - 1));
  const uint64_t to = std::min(where.end(), from + count * kPageSize);
  if (from < where.start || from >= to) return;
  const auto first = (from - where.start) / kPageSize;
  if (first >= pages_.pages()) return;
  const auto length = static_cast<uint32_t>(std::min((to - from) / kPageSize, pages_.pages() - first));
  const Hold hold(*this, lease);
  if (!hold.held()) return;
  begin(Work::kRelease, static_cast<uint32_t>(first), length);  // COMMIT
  complete_work();
}

Status ArenaMap::reserve(const Lease& lease, uint64_t address, uint32_t count) {
  if (count == 0 || address % kPageSize != 0) return {};
  const Window where = window();
  const uint64_t page = page_of(address);
  if (page + count > where.pages) return fail(EINVAL);
  const Hold hold(*this, lease);
  if (!hold.held()) return std::unexpected(hold.error());
  const auto first = static_cast<uint32_t>(page);
  if (!pages_.all_free(first, count)) return fail(EBUSY);
  if (const uint32_t existing = find_memory(first, count); existing != first + count) {
    adopt(existing);
    return fail(EBUSY);
  }
  begin(Work::kReserve, first, count);
  pages_.take(first, count);
  SKEP_CRASH_POINT();
  end();  // COMMIT
  return {};
}

CheckReport ArenaMap::check() const {
  CheckReport report;
  report.elements = pages_.count_present();
  report.free_elements = pages_.pages() - pages_.count_taken();
  const char* const problem = pages_.problem();
  if (problem != nullptr) {
    report.problem = std::string("A1: ") + problem;
  } else if (control_.lock.load() == 0 && control_.work.load() != 0) {
    report.problem = "A3: work is left although nobody holds the lock";
  }
  for (uint32_t page = 0; page < pages_.pages() && report.problem.empty(); ++page) {
    if (pages_.has(page) && find_memory(page, 1) != page) report.problem = "A1: a present page has no memory";
  }
  return report;
}

}  // namespace skep
