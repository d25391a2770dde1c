// SPDX-License-Identifier: Apache-2.0
#include "sample_btf.h"

#include <cstring>
#include <string>

namespace skep::oracle {
namespace {

class BtfWriter {
 public:
  uint32_t name(const char* text) {
    const auto offset = static_cast<uint32_t>(strings_.size());
    strings_.append(text).push_back('\0');
    return offset;
  }
  void word(uint32_t value) { types_.push_back(value); }
  void integer(const char* text, uint32_t bytes) {
    header(text, 1, 0, bytes);
    word(bytes * 8);
  }
  void structure(const char* text, uint32_t bytes, uint32_t members) { header(text, 4, members, bytes); }
  void member(const char* text, uint32_t type, uint32_t byte_offset) {
    word(name(text));
    word(type);
    word(byte_offset * 8);
  }
  [[nodiscard]] std::vector<uint8_t> finish() const {
    const auto type_bytes = static_cast<uint32_t>(types_.size() * 4);
    const auto string_bytes = static_cast<uint32_t>(strings_.size());
    const uint32_t header_words[6] = {0x0001eb9f, 24, 0, type_bytes, type_bytes, string_bytes};
    std::vector<uint8_t> blob(24 + type_bytes + string_bytes);
    std::memcpy(blob.data(), header_words, 24);
    std::memcpy(blob.data() + 24, types_.data(), type_bytes);
    std::memcpy(blob.data() + 24 + type_bytes, strings_.data(), string_bytes);
    return blob;
  }

 private:
  void header(const char* text, uint32_t kind, uint32_t members, uint32_t size) {
    word(name(text));
    word(kind << 24 | members);
    word(size);
  }
  std::string strings_ = std::string(1, '\0');
  std::vector<uint32_t> types_;
};

}  // namespace

std::vector<uint8_t> sample_btf() {
  BtfWriter btf;
  btf.integer("unsigned int", 4);
  btf.integer("unsigned long", 8);
  btf.structure("bpf_spin_lock", 4, 1);
  btf.member("val", kU32, 0);
  btf.structure("locked_value", 24, 4);
  btf.member("a", kU64, 0);
  btf.member("lock", kSpinLock, 8);
  btf.member("b", kU32, 12);
  btf.member("c", kU64, 16);
  btf.structure("plain_value", 16, 2);
  btf.member("a", kU64, 0);
  btf.member("b", kU64, 8);
  btf.structure("storage_key", 16, 2);
  btf.member("a", kU64, 0);
  btf.member("b", kU32, 8);
  return btf.finish();
}

}  // namespace skep::oracle
