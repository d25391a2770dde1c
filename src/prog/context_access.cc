// SPDX-License-Identifier: Apache-2.0
#include "prog/context_access.h"

#include <skep/abi.h>

#include <cstring>
#include <variant>

namespace skep {
namespace {

constexpr uint32_t kAttachXdpDevmap = 33;  // BPF_XDP_DEVMAP

/// A range of struct __sk_buff and who may do what with it.
struct SkbField {
  uint32_t begin;
  uint32_t end;
  uint8_t readers;  // bits of the three families below
  uint8_t writers;
  enum Shape : uint8_t {
    kWord,        // 4 bytes, narrower loads too
    kHalf,        // likewise, but the kernel keeps 16 bits
    kWholeWord,   // 4 bytes and nothing else
    kScratch,     // cb: any size that stays inside, both ways
    kDoubleWord,  // 8 bytes and nothing else
    kByte,        // 1 byte and nothing else
    kData,        // pointers, loaded as 4 bytes
    kDataEnd,
    kDataMeta,
    kLength,
    kNull,  // a pointer to what skep does not have; 8 bytes
  } shape;
};

constexpr uint8_t kFilter = 1, kClassifier = 2, kCgroup = 4, kAll = 7;

#define SKEP_FIELD(name) offsetof(UserSkBuff, name), offsetof(UserSkBuff, name) + sizeof(UserSkBuff::name)
constexpr SkbField kSkbFields[] = {
    {SKEP_FIELD(len), kAll, 0, SkbField::kLength},
    {SKEP_FIELD(pkt_type), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(mark), kAll, kClassifier | kCgroup, SkbField::kWord},
    {SKEP_FIELD(queue_mapping), kAll, kClassifier, SkbField::kHalf},
    {SKEP_FIELD(protocol), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(vlan_present), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(vlan_tci), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(vlan_proto), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(priority), kAll, kClassifier | kCgroup, SkbField::kWord},
    {SKEP_FIELD(ingress_ifindex), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(ifindex), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(tc_index), kAll, kClassifier, SkbField::kHalf},
    {SKEP_FIELD(cb), kAll, kAll, SkbField::kScratch},
    {SKEP_FIELD(hash), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(tc_classid), kClassifier, kClassifier, SkbField::kHalf},
    {SKEP_FIELD(data), kClassifier | kCgroup, 0, SkbField::kData},
    {SKEP_FIELD(data_end), kClassifier | kCgroup, 0, SkbField::kDataEnd},
    {SKEP_FIELD(napi_id), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(family), kCgroup, 0, SkbField::kWord},
    {SKEP_FIELD(remote_ip4), kCgroup, 0, SkbField::kWholeWord},
    {SKEP_FIELD(local_ip4), kCgroup, 0, SkbField::kWholeWord},
    {SKEP_FIELD(remote_ip6), kCgroup, 0, SkbField::kWholeWord},
    {SKEP_FIELD(local_ip6), kCgroup, 0, SkbField::kWholeWord},
    {SKEP_FIELD(remote_port), kCgroup, 0, SkbField::kWord},
    {SKEP_FIELD(local_port), kCgroup, 0, SkbField::kWord},
    {SKEP_FIELD(data_meta), kClassifier, 0, SkbField::kDataMeta},
    {SKEP_FIELD(tstamp), kClassifier | kCgroup, kClassifier | kCgroup, SkbField::kDoubleWord},
    {SKEP_FIELD(wire_len), kClassifier, 0, SkbField::kWord},
    {SKEP_FIELD(gso_segs), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(sk), kAll, 0, SkbField::kNull},
    {SKEP_FIELD(gso_size), kAll, 0, SkbField::kWord},
    {SKEP_FIELD(tstamp_type), kClassifier, 0, SkbField::kByte},
    {SKEP_FIELD(hwtstamp), kClassifier | kCgroup, 0, SkbField::kDoubleWord},
};
#undef SKEP_FIELD

uint8_t family_bit(uint32_t type) {
  if (type == BPF_PROG_TYPE_SOCKET_FILTER) return kFilter;
  return type == BPF_PROG_TYPE_CGROUP_SKB ? kCgroup : kClassifier;
}

const SkbField* find_field(uint32_t offset, uint32_t size) {
  for (const SkbField& field : kSkbFields) {
    if (offset >= field.begin && offset < field.end) return offset + size <= field.end ? &field : nullptr;
  }
  return nullptr;
}

bool size_fits(const SkbField& field, uint32_t size) {
  switch (field.shape) {
    case SkbField::kScratch:
      return true;
    case SkbField::kDoubleWord:
    case SkbField::kNull:
      return size == 8;
    case SkbField::kByte:
      return size == 1;
    case SkbField::kWholeWord:
    case SkbField::kData:
    case SkbField::kDataEnd:
    case SkbField::kDataMeta:
      return size == 4;
    default:
      return size <= 4;
  }
}

uint64_t read_bytes(const void* from, uint32_t size) {
  uint64_t value = 0;
  std::memcpy(&value, from, size);
  return value;
}

uint64_t pointer(const std::byte* address) { return reinterpret_cast<uint64_t>(address); }

}  // namespace

void ContextAccess::reset(const RunContext& context, uint32_t program_type, uint32_t expected_attach_type) {
  type_ = program_type;
  expected_attach_type_ = expected_attach_type;
  skb_ = nullptr;
  xdp_ = nullptr;
  bytes_ = nullptr;
  if (auto* const* bytes = std::get_if<BytesContext*>(&context)) {
    bytes_ = *bytes;
    address_ = pointer(bytes_->data);
    size_ = bytes_->size;
  } else if (auto* const* skb = std::get_if<SkbContext*>(&context)) {
    skb_ = *skb;
    address_ = reinterpret_cast<uint64_t>(skb_);
    size_ = sizeof(UserSkBuff);
  } else {
    xdp_ = std::get<XdpContext*>(context);
    address_ = reinterpret_cast<uint64_t>(xdp_);
    size_ = sizeof(UserXdpMd);
  }
}

ContextAccess::PacketAccess ContextAccess::packet_access() const {
  if (xdp_ != nullptr) return PacketAccess::kWrite;
  if (skb_ == nullptr || type_ == BPF_PROG_TYPE_SOCKET_FILTER) return PacketAccess::kNone;
  return type_ == BPF_PROG_TYPE_CGROUP_SKB ? PacketAccess::kRead : PacketAccess::kWrite;
}

const PacketBuffer* ContextAccess::packet() const {
  if (xdp_ != nullptr) return &xdp_->packet;
  return skb_ != nullptr ? &skb_->packet : nullptr;
}

bool ContextAccess::load(uint64_t address, uint32_t size, uint64_t& value) const {
  const auto offset = static_cast<uint32_t>(address - address_);
  if (offset % size != 0 || size > size_ - offset) return false;
  if (xdp_ != nullptr) return load_xdp(offset, size, value);
  if (skb_ != nullptr) return load_skb(offset, size, value);
  value = read_bytes(bytes_->data + offset, size);
  return true;
}

bool ContextAccess::store(uint64_t address, uint32_t size, uint64_t value) {
  const auto offset = static_cast<uint32_t>(address - address_);
  if (offset % size != 0 || size > size_ - offset || xdp_ != nullptr) return false;
  if (skb_ != nullptr) return store_skb(offset, size, value);
  if (!bytes_->writable) return false;
  std::memcpy(bytes_->data + offset, &value, size);
  return true;
}

bool ContextAccess::load_xdp(uint32_t offset, uint32_t size, uint64_t& value) const {
  if (size != 4) return false;
  switch (offset) {
    case offsetof(UserXdpMd, data):
      value = pointer(xdp_->packet.data);
      return true;
    case offsetof(UserXdpMd, data_end):
      value = pointer(xdp_->packet.data_end);
      return true;
    case offsetof(UserXdpMd, data_meta):
      value = pointer(xdp_->packet.data_meta);
      return true;
    case offsetof(UserXdpMd, ingress_ifindex):
      value = xdp_->ingress_ifindex;
      return true;
    case offsetof(UserXdpMd, rx_queue_index):
      value = xdp_->rx_queue_index;
      return true;
    default:
      value = xdp_->egress_ifindex;
      return expected_attach_type_ == kAttachXdpDevmap;
  }
}

bool ContextAccess::load_skb(uint32_t offset, uint32_t size, uint64_t& value) const {
  const SkbField* field = find_field(offset, size);
  if (field == nullptr || (field->readers & family_bit(type_)) == 0 || !size_fits(*field, size)) return false;
  switch (field->shape) {
    case SkbField::kData:
      value = pointer(skb_->packet.data);
      return true;
    case SkbField::kDataEnd:
      value = pointer(skb_->packet.data_end);
      return true;
    case SkbField::kDataMeta:
      value = pointer(skb_->packet.data_meta);
      return true;
    case SkbField::kLength: {
      const uint32_t length = skb_->packet.length();
      value = read_bytes(reinterpret_cast<const std::byte*>(&length) + (offset - field->begin), size);
      return true;
    }
    case SkbField::kNull:
      value = 0;
      return true;
    default:
      value = read_bytes(reinterpret_cast<const std::byte*>(&skb_->fields) + offset, size);
      return true;
  }
}

bool ContextAccess::store_skb(uint32_t offset, uint32_t size, uint64_t value) {
  const SkbField* field = find_field(offset, size);
  if (field == nullptr || (field->writers & family_bit(type_)) == 0 || !size_fits(*field, size)) return false;
  if (field->shape != SkbField::kScratch && size < 4) return false;
  if (field->shape == SkbField::kHalf) {
    // The number that means "no queue" and all above it are ignored.
    if (field->begin == offsetof(UserSkBuff, queue_mapping) && value >= 0xffff) return true;
    value &= 0xffff;
  }
  std::memcpy(reinterpret_cast<std::byte*>(&skb_->fields) + offset, &value, size);
  return true;
}

}  // namespace skep
