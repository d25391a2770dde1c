// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map.h>
#include <skep/error.hpp>
#include <skep/map_base.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

namespace skep {
inline namespace v0 {

/// One element of a walk: a copy.
template <class K, class V>
struct Entry {
  K key;
  V value;
};

namespace detail {

/// A walk over a map, for range-for: fetches elements in copied pieces (each value untorn) and holds nothing of the map
/// in between. Sees each element that exists during the whole walk; ones that come or go meanwhile it may see.
/// `Decode` turns the bytes of a value into V.
template <class K, class V, class Decode>
class Entries {
 public:
  explicit Entries(const skep_map* map, Decode decode)
      : map_(map),
        decode_(decode),
        value_bytes_(skep_map_value_bytes(map)),
        cursor_(skep_map_cursor_bytes(map)),
        keys_(kFirstPiece * sizeof(K)),
        values_(kFirstPiece * value_bytes_),
        room_(kFirstPiece) {}

  class Iterator {
   public:
    using value_type = Entry<K, V>;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    explicit Iterator(Entries* entries) : entries_(entries) {}
    Entry<K, V> operator*() const { return entries_->current(); }
    Iterator& operator++() {
      ++entries_->position_;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& iterator, std::default_sentinel_t) { return iterator.at_end(); }

   private:
    [[nodiscard]] bool at_end() const { return !entries_->available(); }
    Entries* entries_ = nullptr;
  };

  /// Begins the walk, or goes on where it was left.
  Iterator begin() { return Iterator(this); }
  std::default_sentinel_t end() const { return {}; }

  /// 0, or the errno that ended the walk early.
  [[nodiscard]] int error() const { return error_; }

 private:
  static constexpr uint32_t kFirstPiece = 128;

  Entry<K, V> current() const {
    return {from_bytes<K>(keys_.data() + position_ * sizeof(K)), decode_(values_.data() + position_ * value_bytes_)};
  }

  bool available() {
    while (position_ == filled_ && !finished_) fetch();
    return position_ < filled_;
  }

  void fetch() {
    uint32_t count = room_;
    const int result = skep_map_get_batch(map_, cursor_.data(), keys_.data(), values_.data(), &count);
    position_ = 0;
    if (result == -ENOSPC) {
      room_ = count;
      keys_.resize(size_t{room_} * sizeof(K));
      values_.resize(room_ * value_bytes_);
      filled_ = 0;
      return;
    }
    filled_ = result == 0 || result == -ENOENT ? count : 0;
    finished_ = result != 0;
    if (finished_ && result != -ENOENT) error_ = -result;
  }

  const skep_map* map_;
  Decode decode_;
  uint64_t value_bytes_;
  std::vector<std::byte> cursor_, keys_, values_;
  uint32_t room_;
  size_t filled_ = 0;
  size_t position_ = 0;
  bool finished_ = false;
  int error_ = 0;
};

}  // namespace detail
}  // namespace v0
}  // namespace skep
