// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "machine/machine_test_support.h"
#include "memory/file_space.h"
#include "memory/test_repeats.h"
#include "storage/charge.h"
#include "storage/local_storage.h"

namespace skep::testing {

/// A slab in a file of its own.
class TestSlab {
 public:
  TestSlab(const TestDirectory& directory, Machine& machine, uint64_t stride, uint32_t capacity,
           uint64_t chunk_bytes = uint64_t{64} << 10)
      : layout_(SlabLayout::make(0, stride, capacity, chunk_bytes, machine.slots())) {
    const int fd = directory.make_file();
    EXPECT_TRUE(size_file(fd, layout_.end));
    window_ = Segment::map(fd, 0, layout_.end, Access::kReadWrite).value();
    EXPECT_TRUE(window_.reserve(0, layout_.fixed_bytes()));
    close(fd);
    slab_ = std::make_unique<Slab>(layout_, window_, machine);
  }
  Slab& operator*() const { return *slab_; }
  Slab* operator->() const { return slab_.get(); }

 private:
  SlabLayout layout_;
  Segment window_;
  std::unique_ptr<Slab> slab_;
};

/// What a storage map is to the framework: an id and a slab of values of 8 bytes.
class TestPart {
 public:
  TestPart(const TestDirectory& directory, Owners& owners, uint32_t map, OwnerKind kind, uint32_t value_size = 8,
           uint32_t capacity = 1 << 20)
      : machine_(owners.machine()), cells_(directory, machine_, round_up(value_size, 8), capacity) {
    const Lease lease(machine_);
    part_ = {.map = map,
             .cache_slot = owners.register_map(lease, map, kind).value(),
             .charge = ChargeRule::element(kind, value_size),
             .cells = &*cells_};
    StorageParts::of(machine_).add(StorageParts::Locked(), part_);
  }
  ~TestPart() { StorageParts::of(machine_).remove(part_.cells); }
  TestPart(const TestPart&) = delete;
  TestPart& operator=(const TestPart&) = delete;

  const StoragePart& operator*() const { return part_; }
  const StoragePart* operator->() const { return &part_; }

 private:
  Machine& machine_;
  TestSlab cells_;
  StoragePart part_;
};

/// An instance directory with a machine and owners.
class StorageTest : public ::testing::Test {
 protected:
  using Expect = LocalStorage::Expect;

  void SetUp() override {
    machine_ = open_machine(directory_);
    auto owners = Owners::open(*machine_);
    ASSERT_TRUE(owners) << last_error_sentence();
    owners_ = *owners;
  }

  [[nodiscard]] Machine& machine() const { return *machine_; }
  [[nodiscard]] Owners& owners() const { return *owners_; }
  [[nodiscard]] const TestDirectory& directory() const { return directory_; }

  static OwnerIdentity task(uint64_t number) { return {.kind = OwnerKind::kTask, .words = {number, 0, 0}}; }
  static OwnerIdentity socket(uint64_t number) { return {.kind = OwnerKind::kSocket, .words = {number, 0, 0}}; }

  Owner owner(const Lease& lease, const OwnerIdentity& identity) {
    auto made = owners().find_or_make(lease, identity, nullptr);
    if (!made) {
      ADD_FAILURE() << to_int(made.error());
      return {};
    }
    return *made;
  }

  /// 0 or -errno.
  int put(const Lease& lease, const Owner& who, const StoragePart& part, uint64_t value, Expect expect = Expect::kAny) {
    const auto cell = part.cells->claim(lease);
    if (!cell) return -to_int(cell.error());
    std::memcpy(part.cells->bytes(*cell), &value, sizeof value);
    const Status linked = LocalStorage(owners(), who).link(lease, part, *cell, expect);
    if (linked) return 0;
    part.cells->give_back(*cell);
    return -to_int(linked.error());
  }
  int drop(const Lease& lease, const Owner& who, const StoragePart& part) {
    const Status unlinked = LocalStorage(owners(), who).unlink(lease, part);
    return unlinked ? 0 : -to_int(unlinked.error());
  }
  /// The value, or -1.
  int64_t get(const Lease& lease, const Owner& who, const StoragePart& part) {
    const std::byte* value = LocalStorage(owners(), who).find(lease, part);
    if (value == nullptr) return -1;
    int64_t result;
    std::memcpy(&result, value, sizeof result);
    return result;
  }

 private:
  TestDirectory directory_;
  std::shared_ptr<Machine> machine_;
  std::shared_ptr<Owners> owners_;
};

}  // namespace skep::testing
