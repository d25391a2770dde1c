// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map_base.hpp>

#include <span>
#include <utility>

namespace skep {
inline namespace v0 {

/// Records of any size from many producers to one consumer (BPF_MAP_TYPE_RINGBUF), in threads, processes and BPF
/// programs; libbpf's ring_buffer may be the other side. MapOptions::max_entries: bytes, a power of two and a multiple
/// of the page size.
class RingBuffer : public detail::MapBase<BPF_MAP_TYPE_RINGBUF, detail::NoKey, detail::NoValue> {
  using Base = detail::MapBase<BPF_MAP_TYPE_RINGBUF, detail::NoKey, detail::NoValue>;

 public:
  static Expected<RingBuffer> create(const Instance& instance, const MapOptions& options) {
    return create_as<RingBuffer>(instance, options);
  }
  static Expected<RingBuffer> open_id(const Instance& instance, uint32_t id) {
    return open_id_as<RingBuffer>(instance, id, Access::kReadWrite);
  }
  static Expected<RingBuffer> open_pin(const Instance& instance, const std::string& path) {
    return open_pin_as<RingBuffer>(instance, path, Access::kReadWrite);
  }

  /// Room in the ring that is not yet the consumer's. Discarded if it is not submitted; not to be used after its ring.
  /// Consumers wait before it meanwhile: keep it short.
  class Record {
   public:
    Record(Record&& other) noexcept
        : ring_(other.ring_), data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
    Record& operator=(Record&&) = delete;
    ~Record() {
      if (data_ != nullptr) skep_ringbuf_discard(ring_, data_, 0);
    }
    [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
    [[nodiscard]] uint64_t size() const { return size_; }
    /// Gives it to the consumer. Flags: BPF_RB_*. The record is then empty.
    void submit(uint64_t flags = 0) { skep_ringbuf_submit(ring_, std::exchange(data_, nullptr), flags); }

   private:
    friend RingBuffer;
    Record(skep_map* ring, void* data, uint64_t size) : ring_(ring), data_(data), size_(size) {}
    skep_map* ring_;
    void* data_;
    uint64_t size_;
  };

  /// `size` writable bytes, 8-aligned. EAGAIN: no room.
  Expected<Record> reserve(uint64_t size) {
    void* data = nullptr;
    if (const int result = skep_ringbuf_reserve(handle(), size, &data); result < 0) return detail::failure(-result);
    return Record(handle(), data, size);
  }
  /// Copies a record in. EAGAIN: no room.
  Expected<void> output(std::span<const std::byte> record, uint64_t flags = 0) {
    return check(skep_ringbuf_output(handle(), record.data(), record.size(), flags));
  }
  template <detail::MapValue V>
  requires(!std::is_convertible_v<const V&, std::span<const std::byte>>) Expected<void> output(const V& record,
                                                                                               uint64_t flags = 0) {
    return output(std::as_bytes(std::span(&record, 1)), flags);
  }

  /// Calls `visit(std::span<std::byte>)` with each finished record, in order, at most `most`; how many they were. One
  /// thread of one process at a time. A visit that throws ends the program. EOPNOTSUPP: BPF_F_RB_OVERWRITE.
  template <class Visit>
  Expected<uint64_t> consume(Visit&& visit, uint64_t most = UINT64_MAX) {
    const auto call = [](void* context, void* data, uint64_t size) noexcept {
      (*static_cast<std::remove_reference_t<Visit>*>(context))(std::span(static_cast<std::byte*>(data), size));
      return 0;
    };
    void* const context = const_cast<void*>(static_cast<const void*>(&visit));
    const int64_t result = skep_ringbuf_consume(handle(), most, call, context);
    if (result < 0) return detail::failure(static_cast<int>(-result));
    return static_cast<uint64_t>(result);
  }
  /// Sleeps until there is a finished record. False: not within that many milliseconds (negative: without end); EINTR.
  Expected<bool> wait(int milliseconds = -1) {
    const int result = skep_ringbuf_wait(handle(), milliseconds);
    if (result < 0) return detail::failure(-result);
    return result != 0;
  }

 private:
  friend Base;
  RingBuffer() = default;
};

}  // namespace v0
}  // namespace skep
