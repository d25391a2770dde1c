// SPDX-License-Identifier: Apache-2.0
// Where the owners of an instance come from: the file, one mapping of it per machine and process, and its census.
#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "machine/holder_lock.h"
#include "machine/quiet_mutex.h"
#include "memory/named_file.h"
#include "storage/charge.h"
#include "storage/local_storage.h"
#include "storage/owners.h"

namespace skep {
namespace {

constexpr char kName[] = "owners";

struct Registry {
  QuietMutex mutex;
  struct Opened {
    std::weak_ptr<Owners> owners;
    std::string directory;  // another one: the machine is another one, at the place of one that has gone
  };
  std::map<const Machine*, Opened> opened;
};

/// Never destroyed: threads end, and let go of what they own, until the process is gone. Made at load, before the locks
/// that are held when it is locked: fork(2) locks those first that were registered last.
[[gnu::constructor]] void register_early();
Registry& registry() {
  static Registry& only = *[] {
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return new Registry;
  }();
  return only;
}
void register_early() { registry(); }

/// SKEP_STORAGE_LIMIT: bytes of elements that a task, cgroup, inode or object may have; none: no limit.
uint64_t limit_of_environment() {
  const char* text = std::getenv("SKEP_STORAGE_LIMIT");
  uint64_t limit = 0;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), limit);
  return limit;
}

/// Where an instance begins to number its owners: elsewhere than others, so that a number of one means nothing in
/// another. Half of all serials are left.
uint64_t random_serial() {
  uint64_t serial = 0;
  if (::getrandom(&serial, sizeof serial, GRND_NONBLOCK) != sizeof serial) return 0;
  constexpr int kSerialBits = 62 - kOwnerIndexBits;
  return serial >> (64 - (kSerialBits - 1));
}

Status make_owners(int directory_fd, MachineShape shape, const OwnersLayout& layout) {
  // The fixed parts of the slabs lie far apart.
  constexpr uint64_t kReserved = sizeof(OwnersControl);
  return make_named_file(directory_fd, kName, layout.size(), kReserved, [&](const Segment& window) -> Status {
    for (const SlabLayout* slab : {&layout.records, &layout.blocks, &layout.traces}) {
      if (auto reserved = window.reserve(slab->head, slab->fixed_bytes()); !reserved) return reserved;
    }
    auto& control = *reinterpret_cast<OwnersControl*>(window.data());
    control.header = make_file_header(ObjectKind::kOwners, 0, round_up(layout.size(), kPageSize));
    control.shape = shape;
    control.limit = limit_of_environment();
    control.serial.store(random_serial(), std::memory_order_relaxed);
    return {};
  });
}

Result<Segment> map_owners(int directory_fd, const Machine& machine, const OwnersLayout& layout, bool make) {
  int fd = openat(directory_fd, kName, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT && make) {
    if (auto made = make_owners(directory_fd, machine.shape(), layout); !made) return std::unexpected(made.error());
    fd = openat(directory_fd, kName, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  }
  if (fd < 0 && !make) return fail(errno);
  if (fd < 0) return fail_because(errno, "cannot open the owners of local storage of the skep instance");
  auto header = read_file_header(fd, ObjectKind::kOwners);
  if (header && header->private_size != round_up(layout.size(), kPageSize)) {
    header = fail_because(EINVAL, "the owners of local storage of this skep instance are not of this skep's layout");
  }
  auto window = header ? Segment::map(fd, kHeaderOffset, layout.size(), Access::kReadWrite)
                       : Result<Segment>(std::unexpected(header.error()));
  close(fd);
  return window;
}

}  // namespace

void Owners::map_is_gone(Machine& machine, uint32_t map) {
  if (const auto owners = open(machine, false)) (*owners)->unregister_map(map);
}

Result<std::shared_ptr<Owners>> Owners::open(Machine& machine, bool make) {
  const std::lock_guard lock(registry().mutex);
  Registry::Opened& known = registry().opened[&machine];
  if (auto owners = known.owners.lock(); owners && known.directory == machine.directory()) return owners;
  const int directory = ::open(machine.directory().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return fail(errno);
  auto window = map_owners(directory, machine, OwnersLayout(machine.slots()), make);
  close(directory);
  if (!window) return std::unexpected(window.error());
  const auto owners = std::make_shared<Owners>(std::move(*window), machine);
  known = {.owners = owners, .directory = machine.directory()};
  return owners;
}

Owners::Census Owners::census() const {
  Census census;
  const auto wrong = [&](const std::string& what) {
    if (census.problem.empty()) census.problem = what;
  };
  uint32_t named_blocks = 0;
  records_.for_each_live(0, [&](uint32_t index, OwnerNumber number) {
    const OwnerRecord& record = this->record(index);
    const std::string name = "owner " + std::to_string(index);
    if (owner_index(number) != index) wrong(name + ": its word names another record");
    if (record.number.load() == 0) {
      ++census.unfinished;
      return true;
    }
    if (record.number.load() != number) wrong(name + ": its number is another one's");
    ++census.owners;
    uint64_t sum = 0;
    uint64_t steps = 0;
    for (const EntryBlock* block = &record.entries; block != nullptr; block = next_block(*block)) {
      if (++steps > kMostBlocks) {
        wrong(name + " has an endless list of entries");
        return true;
      }
      if (block != &record.entries) ++named_blocks;
      for (uint32_t i = 0; i < EntryBlock::kEntries; ++i) {
        if (block->entries[i].load() == 0) continue;
        sum += block->charges[i].load();
        census.entries += knows_map(entry_map(block->entries[i].load())) ? 1 : 0;
      }
    }
    if (sum != 0) sum += ChargeRule::first_element(record.kind);
    if (const ProcessTag holder = HolderLock::holder(record.lock); holder != ProcessTag{} && !machine_.alive(holder)) {
      ++census.unfinished;  // whoever takes the lock counts anew
    } else if (sum != record.charged.load()) {
      wrong(name + " is charged " + std::to_string(record.charged.load()) + " for " + std::to_string(sum));
    }
    for (const auto& cached : record.cache) {
      const StorageEntry entry = cached.load();
      if (entry == 0) continue;
      bool listed = false;
      steps = 0;
      for (const EntryBlock* block = &record.entries; block != nullptr && steps < kMostBlocks;
           block = next_block(*block), ++steps) {
        for (const auto& place : block->entries) listed |= place.load() == entry;
      }
      if (!listed) wrong(name + ": its cache names what no entry names");
    }
    census.charged += record.charged.load();
    return true;
  });
  const Slab::Census blocks = blocks_.census();
  census.blocks = blocks.live;
  const Slab::Census traces = traces_.census();
  const Slab::Census records = records_.census();
  census.traces = traces.live;
  census.chunks = records.chunks + blocks.chunks + traces.chunks;
  if (blocks.live < named_blocks) wrong("owners share blocks of entries, or have ones that are free");
  census.unfinished += std::max(blocks.live, named_blocks) - named_blocks;
  if (census.traces > census.owners + census.unfinished) census.unfinished += census.traces - census.owners;
  census.unfinished += records.claimed + blocks.claimed + traces.claimed;
  return census;
}

std::string Owners::problem_of(const StoragePart& part) const {
  std::string problem;
  records_.for_each_live(0, [&](uint32_t index, OwnerNumber number) {
    const OwnerRecord& record = this->record(index);
    if (record.number.load(std::memory_order_acquire) != number) return true;
    const StorageEntry entry =
        LocalStorage(const_cast<Owners&>(*this), {.record = &this->record(index), .number = number}).find_entry(part);
    if (entry == 0 || part.cells->meaning(entry_cell(entry)) == number) return true;
    problem = "owner " + std::to_string(index) + " has an element that is not its own";
    return false;
  });
  return problem;
}

}  // namespace skep
