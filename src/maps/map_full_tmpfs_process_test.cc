// SPDX-License-Identifier: Apache-2.0
//
// Maps whose memory comes chunk by chunk, on a tmpfs that gets full: a chunk that cannot have all of its memory keeps
// none of it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "maps/hash_layout.h"
#include "maps/lpm_layout.h"
#include "maps/map_test_support.h"
#include "memory/file_header.h"
#include "memory/small_tmpfs.h"

namespace skep {
namespace {

/// Whether none of the whole pages in these bytes of the map's window exists.
bool is_hole(int fd, uint64_t offset, uint64_t length) {
  const uint64_t begin = round_up(kHeaderOffset + offset, kPageSize);
  const uint64_t end = (kHeaderOffset + offset + length) / kPageSize * kPageSize;
  if (begin >= end) return true;
  const off_t data = lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
  return data < 0 || static_cast<uint64_t>(data) >= end;
}

/// A map on the full tmpfs, filled until there was no memory for more. Null: it went wrong.
std::unique_ptr<Map> filled(int fd, const MapSpec& spec, Machine& machine) {
  MapCreation creation;
  creation.spec = spec;
  auto map = create_map(fd, creation, machine);
  if (!map) return nullptr;
  const std::vector<std::byte> value((*map)->user_value_size(), std::byte{1});
  const Lease lease(machine);
  for (uint64_t key = 0; key < spec.max_entries; ++key) {
    const uint64_t bytes = spec.type == BPF_MAP_TYPE_LPM_TRIE ? key << 32 | 32 : key;
    const Status stored = (*map)->update(lease, &bytes, value.data(), 0);
    if (stored) continue;
    const CheckReport report = (*map)->check();
    return to_int(stored.error()) == ENOMEM && report.problem.empty() && report.elements == key ? std::move(*map)
                                                                                                : nullptr;
  }
  return nullptr;
}

class MapFullTmpfsTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(MapFullTmpfsTest, AChunkGetsAllItsMemoryOrNone) {
  TestDirectory instance, directory;
  SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, [&](int fd) {
    const auto machine = Machine::open(instance.fd());
    if (!machine) return false;
    MapSpec spec = {};
    spec.type = GetParam();
    spec.key_size = 8;
    spec.value_size = spec.type == BPF_MAP_TYPE_LPM_TRIE ? 240 : 300;
    spec.max_entries = 8192;
    spec.flags = BPF_F_NO_PREALLOC;
    const auto map = filled(fd, spec, **machine);
    if (!map) return false;
    const std::byte* window = map->segments().control.data();
    bool holes = true;
    uint32_t absent = 0;
    if (spec.type == BPF_MAP_TYPE_LPM_TRIE) {
      const LpmLayout layout = LpmLayout::of(map->spec());
      const LpmLayout::Pool& pool = layout.pools[LpmLayout::kElements];
      const auto* chunks = reinterpret_cast<const LpmChunk*>(window + pool.table);
      const uint64_t size = pool.stride << pool.chunk_shift;
      for (uint32_t c = 0; c < pool.chunks; ++c) {
        if (chunks[c].state == LpmChunk::kReady) continue;
        ++absent;
        holes &= is_hole(fd, pool.units + c * size, size);
      }
    } else {
      const auto layout = HashLayout::of(map->spec(), (*machine)->shape(), spec.type == BPF_MAP_TYPE_PERCPU_HASH);
      const auto* chunks = reinterpret_cast<const HashChunk*>(window + layout->chunk_table);
      const uint64_t keys = layout->key_stride << layout->chunk_shift;
      const uint64_t values = layout->value_stride << layout->chunk_shift;
      for (uint32_t c = 0; c + 1 < layout->chunks; ++c) {
        if (chunks[c].state == HashChunk::kReady) continue;
        ++absent;
        holes &= is_hole(fd, layout->keys + c * keys, keys);
        for (uint32_t cpu = 0; cpu < layout->parts; ++cpu) {
          holes &= is_hole(fd, layout->values + cpu * layout->part_stride + c * values, values);
        }
      }
    }
    return holes && absent > 0;
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, MapFullTmpfsTest,
                         ::testing::Values(BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LPM_TRIE),
                         [](const auto& kind) {
                           return kind.param == BPF_MAP_TYPE_HASH          ? "Hash"
                                  : kind.param == BPF_MAP_TYPE_PERCPU_HASH ? "PerCpuHash"
                                                                           : "LpmTrie";
                         });

}  // namespace
}  // namespace skep
