// SPDX-License-Identifier: Apache-2.0
#include "peers.h"

#include <tbb/concurrent_hash_map.h>
#include <urcu/rculfhash.h>
#include <urcu/urcu-qsbr.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "loop_parameters.h"
#include "threads.h"

namespace skep::bench {

namespace {

/// Calls `find(key)`, which returns the value, for random keys.
template <class Find>
void look_up_random(uint64_t entries, uint64_t seed, uint64_t operations, Find find) {
  uint64_t state = seed;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < operations; ++i) {
    const uint64_t random = BENCH_NEXT(state);
    sum += find(BENCH_KEY(BENCH_INDEX(random, entries)));
  }
  keep(sum);
}

class TbbPeer final : public Peer {
 public:
  explicit TbbPeer(uint64_t entries) : entries_(entries), table_(entries) {
    for (uint64_t i = 0; i < entries; ++i) table_.emplace(BENCH_KEY(i), i);
  }
  void look_up(uint64_t seed, uint64_t operations) override {
    look_up_random(entries_, seed, operations, [this](uint64_t key) {
      decltype(table_)::const_accessor found;
      return table_.find(found, key) ? found->second : 0;
    });
  }

 private:
  uint64_t entries_;
  tbb::concurrent_hash_map<uint64_t, uint64_t> table_;
};

class StdPeer final : public Peer {
 public:
  explicit StdPeer(uint64_t entries) : entries_(entries), table_(entries) {
    for (uint64_t i = 0; i < entries; ++i) table_.emplace(BENCH_KEY(i), i);
  }
  void look_up(uint64_t seed, uint64_t operations) override {
    look_up_random(entries_, seed, operations, [this](uint64_t key) {
      const std::shared_lock lock(mutex_);
      const auto found = table_.find(key);
      return found != table_.end() ? found->second : 0;
    });
  }

 private:
  uint64_t entries_;
  std::shared_mutex mutex_;
  std::unordered_map<uint64_t, uint64_t> table_;
};

class LiburcuPeer final : public Peer {
 public:
  explicit LiburcuPeer(uint64_t entries)
      : entries_(entries),
        nodes_(entries),
        table_(cds_lfht_new_flavor(entries, entries, 0, 0, &urcu_qsbr_flavor, nullptr)) {
    urcu_qsbr_register_thread();
    for (uint64_t i = 0; i < entries; ++i) {
      nodes_[i].key = BENCH_KEY(i);
      nodes_[i].value = i;
      cds_lfht_node_init(&nodes_[i].links);
      cds_lfht_add(table_, hash(nodes_[i].key), &nodes_[i].links);
    }
    urcu_qsbr_unregister_thread();
  }
  LiburcuPeer(const LiburcuPeer&) = delete;
  LiburcuPeer& operator=(const LiburcuPeer&) = delete;
  ~LiburcuPeer() override {
    urcu_qsbr_register_thread();
    for (Node& node : nodes_) cds_lfht_del(table_, &node.links);
    urcu_qsbr_unregister_thread();
    cds_lfht_destroy(table_, nullptr);
  }
  void look_up(uint64_t seed, uint64_t operations) override {
    urcu_qsbr_register_thread();
    uint64_t until_quiescent = kQuiescentEvery;
    look_up_random(entries_, seed, operations, [&](uint64_t key) -> uint64_t {
      if (--until_quiescent == 0) {
        urcu_qsbr_quiescent_state();
        until_quiescent = kQuiescentEvery;
      }
      cds_lfht_iter position;
      cds_lfht_lookup(table_, hash(key), matches, &key, &position);
      const cds_lfht_node* found = cds_lfht_iter_get_node(&position);
      return found != nullptr ? reinterpret_cast<const Node*>(found)->value : 0;
    });
    urcu_qsbr_unregister_thread();
  }

 private:
  struct Node {
    cds_lfht_node links;  // first, so that a pointer to it is one to the node
    uint64_t key;
    uint64_t value;
  };
  static constexpr uint64_t kQuiescentEvery = 1024;
  static unsigned long hash(uint64_t key) { return key * 0xff51afd7ed558ccd ^ key >> 32; }
  static int matches(cds_lfht_node* node, const void* key) {
    return reinterpret_cast<const Node*>(node)->key == *static_cast<const uint64_t*>(key);
  }

  uint64_t entries_;
  std::vector<Node> nodes_;
  cds_lfht* table_;
};

}  // namespace

std::unique_ptr<Peer> make_tbb_peer(uint64_t entries) { return std::make_unique<TbbPeer>(entries); }
std::unique_ptr<Peer> make_liburcu_peer(uint64_t entries) { return std::make_unique<LiburcuPeer>(entries); }
std::unique_ptr<Peer> make_std_peer(uint64_t entries) { return std::make_unique<StdPeer>(entries); }

}  // namespace skep::bench
