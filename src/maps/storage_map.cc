// SPDX-License-Identifier: Apache-2.0
#include "maps/storage_map.h"

#include <algorithm>
#include <string>

#include "machine/reader_section.h"
#include "maps/map_kinds.h"
#include "maps/storage_clones.h"
#include "maps/value_lock.h"
#include "skep/abi.h"
#include "storage/charge.h"

namespace skep {
namespace {

using Expect = LocalStorage::Expect;

constexpr uint32_t kFlags = BPF_F_NO_PREALLOC | BPF_F_CLONE;
constexpr uint32_t kLargestValue = 65407;
constexpr uint32_t kMostElements = 1 << 22;
constexpr uint64_t kMostBytes = uint64_t{16} << 30;
constexpr uint64_t kChunkBytes = uint64_t{64} << 10;
constexpr uint32_t kSweptCells = 2;   // of the map, by each update
constexpr uint32_t kSweptOwners = 2;  // of the instance, for each new one

struct alignas(64) StorageControl {
  std::atomic<uint32_t> cursor;  // of the sweep: a hint
};

bool has_lock(const MapSpec& spec) { return spec.fields.spin_lock != ValueFields::kNone; }

/// Whether what a listener has goes to the sockets that it accepts.
bool is_cloned(const MapSpec& spec, OwnerKind owners) {
  return owners == OwnerKind::kSocket && (spec.flags & BPF_F_CLONE) != 0;
}

uint32_t stride_of(const MapSpec& spec) { return static_cast<uint32_t>(round_up(spec.value_size, 8)); }

uint32_t capacity_of(const MapSpec& spec) {
  return static_cast<uint32_t>(std::min<uint64_t>(kMostElements, kMostBytes / stride_of(spec)));
}

StripedValues::Plan plan_of(const MapSpec& spec) { return StripedValues::plan(capacity_of(spec), 1, stride_of(spec)); }

SlabLayout slab_of(const MapSpec& spec, uint32_t slots) {
  const uint64_t stripes = has_lock(spec) ? plan_of(spec).bytes() : 0;
  return SlabLayout::make(round_up(kControlOffset + sizeof(StorageControl) + stripes, kPageSize), stride_of(spec),
                          capacity_of(spec), kChunkBytes, slots);
}

StorageControl& control_of(const MapSegments& segments) {
  return *reinterpret_cast<StorageControl*>(segments.control.data() + kControlOffset);
}

Status check(const MapSpec& spec, const MachineShape&) {
  if ((spec.flags & ~kFlags) != 0 || (spec.flags & BPF_F_NO_PREALLOC) == 0 || spec.max_entries != 0 ||
      spec.key_size != 4 || spec.value_size == 0) {
    return fail(EINVAL);
  }
  if (spec.value_size > kLargestValue) return fail(E2BIG);
  return FieldGaps(spec.fields).fit(spec.value_size) ? Status{} : fail(EINVAL);
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) {
  const SlabLayout slab = slab_of(spec, shape.slots);
  MapLayout layout;
  layout.private_size = slab.end;
  layout.reserve[0] = {.offset = 0, .length = slab.states};
  return layout;
}

/// Zeros are a slab without cells.
Status initialise(const MapSegments&, Machine&) { return {}; }

template <OwnerKind kKind>
Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  auto owners = Owners::open(machine);
  if (!owners) return std::unexpected(owners.error());
  return std::make_unique<StorageMap>(std::move(segments), machine, kKind, *std::move(owners));
}

template <OwnerKind kKind>
constexpr MapKind row(uint32_t type, const char* name) {
  return {.type = type,
          .name = name,
          .check = check,
          .layout = layout,
          .initialise = initialise,
          .open = open<kKind>,
          .values = ValueMeaning::kOwned,
          .needs_types = true};
}

}  // namespace

constinit const MapKind kTaskStorageKind = row<OwnerKind::kTask>(BPF_MAP_TYPE_TASK_STORAGE, "task_storage");
constinit const MapKind kCgroupOwnedStorageKind = row<OwnerKind::kCgroup>(BPF_MAP_TYPE_CGRP_STORAGE, "cgrp_storage");
constinit const MapKind kSocketStorageKind = row<OwnerKind::kSocket>(BPF_MAP_TYPE_SK_STORAGE, "sk_storage");
constinit const MapKind kInodeStorageKind = row<OwnerKind::kInode>(BPF_MAP_TYPE_INODE_STORAGE, "inode_storage");

StorageMap::StorageMap(MapSegments segments, Machine& machine, OwnerKind owners_are, std::shared_ptr<Owners> owners)
    : Map(std::move(segments), machine),
      owner_kind_(owners_are),
      owners_(std::move(owners)),
      value_size_(spec().value_size),
      gaps_(spec().fields),
      cells_(slab_of(spec(), machine.slots()), segments_.control, machine),
      stranger_{.map = UINT32_MAX, .cache_slot = 0, .charge = 0, .cells = &cells_} {
  if (!has_lock(spec())) return;
  const ValuePlaces places = {.base = cells_.bytes(0),
                              .elements = cells_.layout().capacity,
                              .element_stride = cells_.layout().stride,
                              .piece_stride = 0,
                              .pieces = 1,
                              .piece_room = stride_of(spec())};
  striped_.emplace(segments_.control.data() + kControlOffset + sizeof(StorageControl), plan_of(spec()), places, gaps_,
                   segments_.control.writable(), machine_);
}

StorageMap::~StorageMap() {
  if (has_joined() && is_cloned(spec(), owner_kind_)) StorageClones::remove(joined_.map);
  StorageParts::of(machine_).remove(&cells_);
}

Status StorageMap::join(const Lease& lease) const {
  if (has_joined()) return {};
  const auto slot = owners_->register_map(lease, header().file.id, owner_kind_);
  if (!slot) return std::unexpected(slot.error());
  StorageParts& parts = StorageParts::of(machine_);
  const StorageParts::Locked locked;
  if (has_joined()) return {};
  joined_ = {.map = header().file.id,
             .cache_slot = *slot,
             .charge = ChargeRule::element(owner_kind_, value_size_),
             .cells = &cells_};
  if (segments_.control.writable()) parts.add(locked, joined_);
  if (is_cloned(spec(), owner_kind_)) StorageClones::add(joined_.map);
  part_.store(&joined_, std::memory_order_release);  // pairs with part()
  return {};
}

void* StorageMap::get_first(const Lease& lease, const Owner& owner) {
  return join(lease) ? LocalStorage(*owners_, owner).find(lease, part()) : nullptr;
}

void StorageMap::copy_out(uint32_t cell, void* value) const {
  if (striped_) {
    striped_->read(range(cell), value, 0);
  } else {
    copy_from_shared(value, cells_.bytes(cell), value_size_);
  }
  gaps_.clear(value);
}

Status StorageMap::copy_out_locked(uint32_t cell, void* value) const {
  if (!segments_.control.writable()) {
    copy_out(cell, value);
    return {};
  }
  const Lease lease(machine_);
  std::atomic<uint32_t>& lock = ValueLock::of(cells_.bytes(cell), spec().fields);
  const auto taken = ValueLock::acquire(machine_, lock);
  if (!taken) return std::unexpected(taken.error());
  if (*taken == ValueLock::Taken::kFromDead) static_cast<void>(striped_->settle(lease, cell));
  copy_out(cell, value);
  ValueLock::release(lock);
  return {};
}

Status StorageMap::write_locked(const Lease& lease, uint32_t cell, const void* value) {
  std::atomic<uint32_t>& lock = ValueLock::of(cells_.bytes(cell), spec().fields);
  if (const auto taken = ValueLock::acquire(machine_, lock); !taken) return std::unexpected(taken.error());
  const Status written = striped_->write(lease, range(cell), value, 0);
  ValueLock::release(lock);
  return written;
}

Status StorageMap::lookup_of(const OwnerIdentity& identity, void* value, uint64_t flags) const {
  if (!has_joined()) {
    const Lease lease(machine_);
    if (auto joined = join(lease); !joined) return joined;
  }
  const ReaderSection section(machine_);
  return lookup(owners_->find(identity), value, flags);
}

Status StorageMap::lookup(const Owner& owner, void* value, uint64_t flags) const {
  const StorageEntry entry = owner ? LocalStorage(*owners_, owner).find_entry(part()) : 0;
  if (entry == 0) return fail(ENOENT);
  if ((flags & BPF_F_LOCK) != 0) return copy_out_locked(entry_cell(entry), value);
  copy_out(entry_cell(entry), value);
  return {};
}

Status StorageMap::update_of(const Lease& lease, const OwnerIdentity& identity,
                             const std::function<OwnerTrace()>& make_trace, const void* value, uint64_t flags) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) > BPF_EXIST || ((flags & BPF_F_LOCK) != 0 && !striped_)) return fail(EINVAL);
  Owner owner = owners_->find(identity);
  if (!owner) {
    if ((flags & BPF_EXIST) != 0) return fail(ENOENT);
    owners_->sweep(lease, kSweptOwners, is_gone);
    const OwnerTrace trace = make_trace();
    const auto made = owners_->find_or_make(lease, identity, &trace);
    if (!made) return std::unexpected(made.error());
    owner = *made;
  }
  return update(lease, owner, value, flags);
}

Status StorageMap::erase_of(const Lease& lease, const OwnerIdentity& identity) {
  const Owner owner = owners_->find(identity);
  return owner ? erase(lease, owner) : fail(ENOENT);
}

/// A new element with that value in place of whatever is there.
Status StorageMap::put(const Lease& lease, const Owner& owner, const void* value, Expect expect) {
  cells_.sweep(lease, control_of(segments_).cursor, kSweptCells,
               [&](uint32_t cell, OwnerNumber number) { owners_->check_element(lease, part(), cell, number); });
  const auto cell = cells_.claim(lease);
  if (!cell) return std::unexpected(cell.error());
  // A dead writer's write to the cell's last element is completed now and not later, over this one.
  if (const Status settled = striped_ ? striped_->settle(lease, *cell) : Status(); !settled) {
    cells_.give_back(*cell);
    return settled;
  }
  if (value != nullptr) {
    gaps_.copy_cleared(cells_.bytes(*cell), value, value_size_);
  } else {
    std::fill_n(cells_.bytes(*cell), value_size_, std::byte{});
  }
  const Status linked = LocalStorage(*owners_, owner).link(lease, part(), *cell, expect);
  if (!linked) cells_.give_back(*cell);
  return linked;
}

void* StorageMap::get_or_make(const Lease& lease, const Owner& owner, const void* initial) {
  if (void* value = get(lease, owner); value != nullptr) return value;
  const Status made = put(lease, owner, initial, Expect::kAbsent);
  return made || to_int(made.error()) == EEXIST ? get(lease, owner) : nullptr;
}

Status StorageMap::update(const Lease& lease, const Owner& owner, const void* value, uint64_t flags) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) > BPF_EXIST || ((flags & BPF_F_LOCK) != 0 && !striped_)) return fail(EINVAL);
  if (auto joined = join(lease); !joined) return joined;
  const auto expect = static_cast<Expect>(flags & (BPF_NOEXIST | BPF_EXIST));
  if ((flags & BPF_F_LOCK) == 0 || expect == Expect::kAbsent) return put(lease, owner, value, expect);
  constexpr int kAttempts = 64;  // others may delete and make it in between
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const StorageEntry entry = LocalStorage(*owners_, owner).find_entry(part());
    if (entry != 0) return write_locked(lease, entry_cell(entry), value);
    if (expect == Expect::kPresent) return fail(ENOENT);
    const Status made = put(lease, owner, value, Expect::kAbsent);
    if (made || to_int(made.error()) != EEXIST) return made;
  }
  return fail(EAGAIN);
}

Status StorageMap::erase(const Lease& lease, const Owner& owner) {
  if (auto joined = join(lease); !joined) return joined;
  return LocalStorage(*owners_, owner).unlink(lease, part());
}

uint64_t StorageMap::for_each_owner(const std::function<Visit(const Owner&, void*)>& visit) const {
  const Lease lease(machine_);
  if (!join(lease)) return 0;
  uint64_t calls = 0;
  cells_.for_each_live(0, [&](uint32_t cell, OwnerNumber number) {
    const Owner owner = owners_->find(number);
    if (!owner || LocalStorage(*owners_, owner).find_entry(part()) != storage_entry(part().map, cell)) return true;
    ++calls;
    return visit(owner, cells_.bytes(cell)) == Visit::kContinue;
  });
  return calls;
}

void StorageMap::sweep(const Lease& lease) {
  constexpr uint32_t kStep = 64;
  if (!segments_.control.writable() || !join(lease)) return;
  cells_.sweep(lease, control_of(segments_).cursor, kStep,
               [&](uint32_t cell, OwnerNumber number) { owners_->check_element(lease, part(), cell, number); });
  cells_.trim(lease);
}

Status StorageMap::next_key(const void*, void*) const { return fail(kEnotsupp); }

void StorageMap::settle(const Lease& lease, void* value) {
  const uint32_t cell = cell_of(value);
  if (striped_ && cell < cells_.layout().capacity) static_cast<void>(striped_->settle(lease, cell));
}

CheckReport StorageMap::check() const {
  CheckReport report;
  const Slab::Census census = cells_.census();
  report.elements = for_each_owner([](const Owner&, void*) { return Visit::kContinue; });
  // What belongs to nobody is about to be swept.
  report.free_elements = uint64_t{census.free} + census.retired + census.live - report.elements;
  report.problem = owners_->problem_of(part());
  if (const char* problem = striped_ ? striped_->check() : nullptr; problem != nullptr) report.problem = problem;
  return report;
}

}  // namespace skep
