// SPDX-License-Identifier: Apache-2.0
#include "generator.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "kind_forms.h"
#include "sample_btf.h"

namespace skep::oracle {
namespace {

// Where each command's used part of the attr ends (whole 8-byte attrs; what lies behind must be zero).
constexpr unsigned kElementEnd = 32, kBatchEnd = 56, kInfoEnd = 16;

template <class T>
void put(std::vector<uint8_t>& attr, size_t offset, T value) {
  std::memcpy(attr.data() + offset, &value, sizeof value);
}

Operation make_operation(int command, unsigned size) {
  Operation operation;
  operation.command = command;
  operation.size = size;
  operation.attr.assign(size, 0);
  return operation;
}

}  // namespace

bool MapModel::is_array() const { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }
bool MapModel::is_per_cpu() const {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}
bool MapModel::is_walked() const {
  return is_array() || type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_LPM_TRIE;
}
bool MapModel::of_objects() const {
  return !is_walked() && type != BPF_MAP_TYPE_QUEUE && type != BPF_MAP_TYPE_STACK && type != BPF_MAP_TYPE_BLOOM_FILTER;
}

std::vector<uint32_t> Generator::open_maps() const {
  std::vector<uint32_t> numbers;
  for (uint32_t i = 0; i < maps_.size(); ++i) {
    if (maps_[i].open) numbers.push_back(i);
  }
  return numbers;
}

uint32_t Generator::user_value_size(const MapModel& map) const {
  return map.is_per_cpu() ? (map.value_size + 7) / 8 * 8 * cpus_ : map.value_size;
}

std::vector<uint8_t> Generator::bytes(size_t size) {
  std::vector<uint8_t> content(size);
  for (auto& byte : content) byte = static_cast<uint8_t>(random_());
  return content;
}

/// Keys come from a small pool, so that operations meet: a bit more keys than fit into a small map.
std::vector<uint8_t> Generator::key_of(const MapModel& map) {
  if (map.is_array()) {
    uint32_t index = one_in(12) ? pick<uint32_t>({map.max_entries, map.max_entries + 1, 0x80000000u, 0xffffffffu})
                                : below(map.max_entries);
    std::vector<uint8_t> key(4);
    std::memcpy(key.data(), &index, 4);
    return key;
  }
  const uint32_t number = below(std::min(map.max_entries + map.max_entries / 4 + 2, 40u));
  std::vector<uint8_t> key(map.key_size);
  std::mt19937 content(number * 7919 + map.key_size);
  for (auto& byte : key) byte = static_cast<uint8_t>(content());
  if (map.type == BPF_MAP_TYPE_LPM_TRIE) {
    const uint32_t bits = 8 * (map.key_size - 4), length = number % 8 == 0 ? bits + number % 3 : number % (bits + 1);
    std::memcpy(key.data(), &length, 4);
    key[4] &= 3;  // so that prefixes meet
  }
  return key;
}

uint64_t Generator::element_flags(const MapModel& map) {
  if (one_in(40))
    // What belongs to CPUs is known to newer kernels, and so is where it does not belong: docs/differences.md.
    return map.is_per_cpu() || !map.is_walked() ? pick<uint64_t>({3, 5, 7, 32, 64})
                                                : pick<uint64_t>({3, 5, 6, 7, 8, 16, 64, 1ull << 32, ~0ull});
  const uint64_t existence = pick<uint64_t>({BPF_ANY, BPF_ANY, BPF_NOEXIST, BPF_EXIST});
  return existence | (one_in(map.locked_value ? 3 : 30) ? uint64_t{BPF_F_LOCK} : 0);
}

/// A map of one of the kinds that have tests of their own: here it gets what clients get wrong.
Operation Generator::create_other() {
  const auto forms = kind_forms();
  for (;;) {
    const KindForm& form = forms[below(static_cast<uint32_t>(forms.size()))];
    MapModel map{.type = form.type,
                 .key_size = form.key_size,
                 .value_size = form.value_size,
                 .max_entries = form.max_entries,
                 .flags = form.flags};
    if (form.of_maps || form.needs_btf || !skep_has(form.type)) continue;
    if (form.type == BPF_MAP_TYPE_STACK_TRACE || one_in(3)) map.flags |= BPF_F_NUMA_NODE * below(2);
    Operation operation = make_operation(BPF_MAP_CREATE, 96);
    operation.returns_descriptor = true;
    put(operation.attr, 0, map.type);
    put(operation.attr, 4, map.key_size);
    put(operation.attr, 8, map.value_size);
    put(operation.attr, 12, map.max_entries);
    put(operation.attr, 16, map.flags);
    pending_ = map;
    return operation;
  }
}

Operation Generator::create() {
  if (one_in(3)) return create_other();
  Operation operation = make_operation(BPF_MAP_CREATE, one_in(3) ? 168 : 96);
  operation.returns_descriptor = true;
  MapModel map;
  map.type =
      pick<uint32_t>({BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY});
  map.key_size = map.is_array() && !one_in(20) ? 4 : pick<uint32_t>({1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 24, 33, 64, 200});
  map.value_size = pick<uint32_t>({1, 2, 3, 4, 5, 8, 8, 8, 12, 16, 24, 24, 64, 100, 512, 1000});
  map.max_entries = pick<uint32_t>({1, 2, 3, 4, 7, 8, 10, 16, 30, 100, 300});
  if (!map.is_array() && one_in(2)) map.flags |= BPF_F_NO_PREALLOC;
  if (!map.is_array() && one_in(8)) map.flags |= BPF_F_ZERO_SEED;
  if (map.type == BPF_MAP_TYPE_ARRAY && one_in(3)) map.flags |= BPF_F_MMAPABLE;
  if (one_in(40)) map.flags |= pick<uint32_t>({BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG});
  if (one_in(12)) map.flags |= 1u << below(20);
  if (one_in(25)) map.flags = static_cast<uint32_t>(random_()) & 0x3ff;
  if (one_in(25)) map.key_size = pick<uint32_t>({0, 513, 4096});
  if (one_in(25)) map.value_size = pick<uint32_t>({0, 32768, 32769, 40000, 4u << 20, 0xfffffff9, 0xffffffff});
  if (map.value_size == 4u << 20) map.max_entries = std::min(map.max_entries, 2u);
  if (one_in(25)) map.max_entries = map.is_array() ? 0 : pick<uint32_t>({0, 0x80000001, 0xffffffff});
  // A lock or plain struct as the value's BTF. The per-CPU kinds refuse the lock.
  const bool locked = one_in(5);
  if (locked || one_in(12)) {
    map.value_size = locked ? 24 : 16;
    map.key_size = one_in(2) ? 4 : map.key_size;
    uint32_t key_type = map.key_size == 4 ? kU32 : kU64;
    uint32_t value_type = locked ? kLockedValue : kPlainValue;
    if (one_in(10)) key_type = pick<uint32_t>({0, kU64, kSampleTypeEnd, 77});
    if (one_in(10)) value_type = pick<uint32_t>({0, kU64, kSpinLock, kSampleTypeEnd});
    put(operation.attr, 52, key_type);
    put(operation.attr, 56, value_type);
    operation.descriptors.push_back({48, DescriptorField::Kind::kBtf, 0});
    map.locked_value = locked;
    if (one_in(15)) put(operation.attr, 60, uint32_t{1});
  }
  put(operation.attr, 0, map.type);
  put(operation.attr, 4, map.key_size);
  put(operation.attr, 8, map.value_size);
  put(operation.attr, 12, map.max_entries);
  put(operation.attr, 16, map.flags);
  if (one_in(20)) put(operation.attr, 24, pick<uint32_t>({0, 1, 100, 0xffffffff}));
  const auto name = pick<std::string_view>(
      {"", "m", "a_map", "fifteen.bytes_", "0123456789abcde", "0123456789abcdef", "bad name", "a-b"});
  std::memcpy(operation.attr.data() + 28, name.data(), std::min<size_t>(name.size(), 16));
  if (one_in(40)) put(operation.attr, 44, uint32_t{1});
  if (one_in(40)) put(operation.attr, 64, uint64_t{1});
  if (one_in(40)) put(operation.attr, 80, uint64_t{1});
  pending_ = map;
  return operation;
}

void Generator::created(uint32_t number) {
  maps_.resize(std::max<size_t>(maps_.size(), number + 1));
  maps_[number] = pending_;
  maps_[number].open = true;
}

Operation Generator::element(uint32_t number) {
  const MapModel& map = maps_[number];
  const int command = one_in(3) ? pick<int>({BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_AND_DELETE_ELEM})
                                : pick<int>({BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_UPDATE_ELEM});
  Operation operation = make_operation(command, kElementEnd);
  operation.descriptors.push_back({0, DescriptorField::Kind::kMap, number});
  const uint32_t value_size = user_value_size(map);
  const bool no_key = command == BPF_MAP_GET_NEXT_KEY ? one_in(4) : map.key_size == 0 && !one_in(8);
  if (no_key) {
    operation.buffers.push_back({.attr_offset = 8, .content = {}, .raw = true});  // NULL: the first key
  } else if (map.key_size == 0) {
    operation.buffers.push_back({.attr_offset = 8, .content = bytes(8)});
  } else {
    operation.buffers.push_back({.attr_offset = 8, .content = key_of(map)});
  }
  switch (command) {
    case BPF_MAP_UPDATE_ELEM:
      operation.buffers.push_back(
          {.attr_offset = 16,
           .content = map.of_objects() ? std::vector<uint8_t>(std::max(value_size, 8u), 0xff) : bytes(value_size)});
      // Which of two reasons is told: docs/differences.md.
      if (map.type != BPF_MAP_TYPE_REUSEPORT_SOCKARRAY) put(operation.attr, 24, element_flags(map));
      break;
    case BPF_MAP_LOOKUP_ELEM:
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      operation.buffers.push_back({.attr_offset = 16, .content = std::vector<uint8_t>(value_size, 0xee)});
      if (one_in(map.locked_value ? 3 : 25)) put(operation.attr, 24, uint64_t{BPF_F_LOCK});
      if (one_in(40)) put(operation.attr, 24, pick<uint64_t>({1, 2, 32}));
      // Which values a filter takes for others depends on its seed.
      if (map.type == BPF_MAP_TYPE_BLOOM_FILTER) operation.compare = Operation::Compare::kNothing;
      break;
    case BPF_MAP_GET_NEXT_KEY:
      operation.buffers.push_back({.attr_offset = 16, .content = std::vector<uint8_t>(map.key_size, 0xee)});
      // Which key comes next is a hash table's own affair; whether one does is not, where it is not the last.
      if (!map.is_array() && !map.of_objects() && map.type != BPF_MAP_TYPE_LPM_TRIE)
        operation.compare = operation.buffers[0].raw ? Operation::Compare::kResult : Operation::Compare::kNothing;
      break;
    default:
      break;
  }
  disturb(operation, kElementEnd);
  return operation;
}

Operation Generator::batch(uint32_t number) {
  const MapModel& map = maps_[number];
  const uint32_t value_size = user_value_size(map);
  int command = pick<int>({BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH});
  if (one_in(8)) command = BPF_MAP_LOOKUP_AND_DELETE_BATCH;
  Operation operation = make_operation(command, kBatchEnd);
  operation.descriptors.push_back({36, DescriptorField::Kind::kMap, number});
  const bool reads = command == BPF_MAP_LOOKUP_BATCH || command == BPF_MAP_LOOKUP_AND_DELETE_BATCH;
  uint32_t count = below(24);
  const bool by_key = map.is_array() || map.type == BPF_MAP_TYPE_LPM_TRIE;  // the cursor is a key
  if (reads && !by_key && map.is_walked()) {
    // Only a batch that takes the whole table has a content that does not depend on the hash function.
    count = map.max_entries + below(3);
    operation.compare = Operation::Compare::kSortedBatch;
    operation.batch_key_size = map.key_size;
    operation.batch_value_size = value_size;
  }
  if (one_in(40)) count = 0;
  put(operation.attr, 32, count);
  std::vector<uint8_t> keys(size_t{count} * map.key_size, 0xee);
  std::vector<uint8_t> values(size_t{count} * value_size, 0xee);
  if (!reads) {
    for (uint32_t i = 0; i < count; ++i) std::ranges::copy(key_of(map), keys.begin() + ptrdiff_t{i} * map.key_size);
    if (command == BPF_MAP_UPDATE_BATCH) values = bytes(values.size());
  }
  operation.buffers.push_back({.attr_offset = 16, .content = std::move(keys)});
  operation.buffers.push_back({.attr_offset = 24, .content = std::move(values)});
  if (reads) {
    operation.buffers.push_back({.attr_offset = 8, .content = std::vector<uint8_t>(std::max(map.key_size, 8u), 0xee)});
    if (one_in(3)) {
      auto cursor = key_of(map);
      if (!by_key) {
        const uint32_t bucket = pick<uint32_t>({0, 4096, 0x80000000u, 0xffffffffu});
        cursor.assign(4, 0);
        std::memcpy(cursor.data(), &bucket, 4);
      }
      operation.buffers.push_back({.attr_offset = 0, .content = std::move(cursor)});
    }
  }
  if (one_in(6)) put(operation.attr, 40, one_in(2) ? uint64_t{BPF_F_LOCK} : pick<uint64_t>({1, 2, 3, 32}));
  if (one_in(30)) put(operation.attr, 48, pick<uint64_t>({1, 4}));
  disturb(operation, kBatchEnd);
  return operation;
}

Operation Generator::info(uint32_t number) {
  Operation operation = make_operation(BPF_OBJ_GET_INFO_BY_FD, kInfoEnd);
  operation.descriptors.push_back({0, DescriptorField::Kind::kMap, number});
  const uint32_t length = pick<uint32_t>({0, 4, 8, 20, 44, 80, 88, 100, 104, 112, 128});
  put(operation.attr, 4, length);
  std::vector<uint8_t> content(length, 0);
  if (length > 0 && one_in(6)) content[below(length)] = 0x5a;
  if (length >= 88) std::fill(content.begin() + 88, content.begin() + std::min<ptrdiff_t>(length, 100), uint8_t{0});
  operation.buffers.push_back({.attr_offset = 8, .content = std::move(content), .ignored = {{4, 8}, {64, 68}}});
  return operation;
}

Operation Generator::freeze(uint32_t number) {
  Operation operation = make_operation(BPF_MAP_FREEZE, 8);
  operation.descriptors.push_back({0, DescriptorField::Kind::kMap, number});
  disturb(operation, 4);
  return operation;
}

/// Calls that no client makes: unknown commands, absurd sizes, descriptors that are not there.
Operation Generator::nonsense() {
  Operation operation =
      make_operation(pick<int>({BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                                BPF_MAP_FREEZE, BPF_MAP_LOOKUP_BATCH, 38, 99, -1}),
                     pick<unsigned>({0, 4, 8, 16, 32, 56, 168, 176, 200}));
  if (one_in(3)) operation.attr = bytes(operation.attr.size());
  if (operation.attr.size() >= 40) {
    const uint32_t fd = pick<uint32_t>({0xffffffffu, 0x7fffffffu, 1000000u});
    put(operation.attr, 0, fd);
    put(operation.attr, 36, fd);
  } else if (operation.attr.size() >= 4) {
    put(operation.attr, 0, 1000000u);
  }
  if (one_in(8)) operation.size = pick<unsigned>({4097, 0x7fffffff, 0xffffffff});
  if (one_in(8)) operation.null_attr = true;
  return operation;
}

/// Now and then something is wrong with an otherwise sensible call.
void Generator::disturb(Operation& operation, unsigned used_size) {
  if (!one_in(25)) return;
  switch (below(5)) {
    case 0:  // a pointer that leads nowhere
      // What a take batch removed before it met the bad pointer depends on the order of its table.
      if (!operation.buffers.empty() && operation.command != BPF_MAP_LOOKUP_AND_DELETE_BATCH) {
        Buffer& buffer = operation.buffers[below(static_cast<uint32_t>(operation.buffers.size()))];
        buffer.raw = true;
        buffer.raw_kind = pick<Buffer::Raw>({Buffer::Raw::kAsGiven, Buffer::Raw::kForbidden, Buffer::Raw::kReadOnly});
        buffer.raw_address = pick<uint64_t>({0, 1, 0xffff800000000000ull, 0x8000000000000000ull, ~0ull - 3});
        if (operation.compare == Operation::Compare::kSortedBatch) operation.compare = Operation::Compare::kResult;
        // The key of zeros, which may be in the map, and there the last one.
        if (operation.command == BPF_MAP_GET_NEXT_KEY && buffer.raw_kind == Buffer::Raw::kReadOnly)
          operation.compare = Operation::Compare::kNothing;
      }
      break;
    case 1:  // a longer attr, its tail zero
      operation.attr.resize(operation.attr.size() + 8 * below(30), 0);
      operation.size = static_cast<unsigned>(operation.attr.size());
      break;
    case 2:  // something behind the used part
      operation.attr.resize(std::max<size_t>(operation.attr.size(), used_size + 1 + below(160)), 0);
      operation.size = static_cast<unsigned>(operation.attr.size());
      operation.attr[used_size + below(static_cast<uint32_t>(operation.attr.size()) - used_size)] = 1;
      break;
    case 3:  // a shorter attr: the rest counts as zero. The kernel still writes results behind it, so none of those.
      if (operation.command < BPF_MAP_LOOKUP_BATCH) {
        operation.size = below(operation.size + 1);
        if (operation.compare != Operation::Compare::kNothing) operation.compare = Operation::Compare::kResult;
      }
      break;
    default:  // the descriptor of something else
      operation.descriptors.clear();
      put(operation.attr,
          operation.command >= BPF_MAP_LOOKUP_BATCH && operation.command <= BPF_MAP_DELETE_BATCH ? 36 : 0,
          pick<uint32_t>({0xffffffffu, 1000000u}));
      break;
  }
}

Operation Generator::next() {
  const auto numbers = open_maps();
  if (numbers.empty() || (numbers.size() < 12 && one_in(40))) return create();
  if (one_in(60)) return nonsense();
  const uint32_t number = numbers[below(static_cast<uint32_t>(numbers.size()))];
  if (one_in(3000)) return freeze(number);
  if (one_in(40)) return info(number);
  if (one_in(8)) return batch(number);
  return element(number);
}

}  // namespace skep::oracle
