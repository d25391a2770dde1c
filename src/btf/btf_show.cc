// SPDX-License-Identifier: Apache-2.0
// Scripts read this text, so it is the kernel's to the letter:
//   - "{" and "[" are missing inside an element of an array (until an array in it has ended), before an array of
//     pointers, and before a member whose type begins with a qualifier; "}" and "]" never are;
//   - elements that are pointers or arrays are all shown as the first one;
//   - arrays of one-byte integers end at the first 0;
//   - an enumerator's value is looked up as a whole word, however small the type is;
//   - a section has no end.
#include "btf/btf_show.h"

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace skep {
namespace {

constexpr uint32_t kSigned = 1;    // encoding of an INT
constexpr int kMaxNameSteps = 10;  // types that opening() looks through
constexpr size_t kMaxText = size_t{16} << 20;
__extension__ using Wide = unsigned __int128;

bool is_qualifier(BtfKind kind) {
  return kind == BtfKind::kConst || kind == BtfKind::kVolatile || kind == BtfKind::kRestrict ||
         kind == BtfKind::kTypeTag;
}

/// What the kernel takes for printable: ASCII, and the upper half of Latin-1.
bool is_printable(unsigned char c) { return (c >= 0x20 && c < 0x7f) || c >= 0xa0; }

class Shower {
 public:
  Shower(const Btf& btf, std::span<const std::byte> value, std::string& text)
      : btf_(btf), value_(value), text_(text), limit_(text.size() + kMaxText) {}

  /// The value of type `id` that begins `at` bytes and `bits` (< 8) bits into the whole.
  void show(uint32_t id, uint64_t at, uint32_t bits) {
    switch (btf_.kind_of(id)) {
      case BtfKind::kTypedef:
      case BtfKind::kVolatile:
      case BtfKind::kConst:
      case BtfKind::kRestrict:
      case BtfKind::kTypeTag:
        return show(btf_.skip_modifiers(id), at, bits);
      case BtfKind::kVar:
        return show(btf_.skip_modifiers(btf_.target(id)), at, bits);
      case BtfKind::kInt:
        return show_int(id, at, bits);
      case BtfKind::kPtr:
        begin(id);
        print("0x%016" PRIx64, read<uint64_t>(at));
        return end();
      case BtfKind::kEnum:
      case BtfKind::kEnum64:
        return show_enum(id, at);
      case BtfKind::kArray:
        return show_array(id, at, bits);
      case BtfKind::kStruct:
      case BtfKind::kUnion:
        return show_members(id, at);
      case BtfKind::kDatasec:
        return show_section(id, at, bits);
      default:
        text_ += "<unsupported kind:" + std::to_string(static_cast<unsigned>(btf_.kind_of(id))) + ">";
    }
  }

 private:
  template <class T>
  [[nodiscard]] T read(uint64_t at) const {
    T result{};
    if (at < value_.size()) std::memcpy(&result, value_.data() + at, std::min(sizeof result, value_.size() - at));
    return result;
  }

  void begin(uint32_t id) { type_ = id; }
  void end() { type_ = 0; }

  [[nodiscard]] const char* delimiter() const {
    if (depth_ == 0) return "";
    return btf_.kind_of(type_) == BtfKind::kUnion ? "|" : ",";
  }

  /// What stands before a value: the bracket that its type opens with.
  [[nodiscard]] const char* opening() const {
    if (in_array_) return "";
    uint32_t id = member_ != 0 ? member_ : type_;
    const char* bracket = "";
    bool pointer = false;
    for (int step = 0;; ++step) {
      if (step == kMaxNameSteps) return "";
      const BtfKind kind = btf_.kind_of(id);
      if (kind == BtfKind::kArray) bracket = "[";
      if (kind == BtfKind::kPtr) pointer = true;
      if (kind != BtfKind::kArray && kind != BtfKind::kPtr && kind != BtfKind::kTypedef) break;
      uint32_t next = btf_.target(id);
      if (next == 0) break;
      while (is_qualifier(btf_.kind_of(next))) next = btf_.target(next);
      id = next;
    }
    const BtfKind kind = btf_.kind_of(id);
    if ((kind == BtfKind::kStruct || kind == BtfKind::kUnion) && *bracket == '\0') bracket = "{";
    return pointer ? "" : bracket;
  }

  [[gnu::format(printf, 2, 3)]] void print(const char* format, ...) {
    char buffer[64];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    print_text(buffer);
  }
  void print_text(std::string_view shown) { text_.append(opening()).append(shown).append(delimiter()); }

  void open_aggregate(uint32_t id) {
    begin(id);
    text_ += opening();
    ++depth_;
  }
  void close_aggregate(const char* bracket) {
    --depth_;
    text_.append(bracket).append(delimiter());
    end();
  }

  void show_int(uint32_t id, uint64_t at, uint32_t bits) {
    begin(id);
    const uint32_t data = btf_.extra(id, 0), width = data & 0xff, offset = (data >> 16) & 0xff;
    const bool is_signed = ((data >> 24) & kSigned) != 0;
    if (bits != 0 || offset != 0) {
      show_bits(at, bits + offset, width);
    } else if (width == 64) {
      is_signed ? print("%" PRId64, read<int64_t>(at)) : print("%" PRIu64, read<uint64_t>(at));
    } else if (width == 32) {
      is_signed ? print("%d", read<int32_t>(at)) : print("%u", read<uint32_t>(at));
    } else if (width == 16) {
      is_signed ? print("%d", read<int16_t>(at)) : print("%u", read<uint16_t>(at));
    } else if (width == 8) {
      show_byte(read<unsigned char>(at), is_signed);
    } else {
      show_bits(at, 0, width);
    }
    end();
  }

  void show_byte(unsigned char byte, bool is_signed) {
    if (in_text_) {
      if (byte == 0) text_ended_ = true;
      if (text_ended_) return;
      if (is_printable(byte)) return print("'%c'", byte);
    }
    is_signed ? print("%d", static_cast<signed char>(byte)) : print("%u", byte);
  }

  void show_bits(uint64_t at, uint32_t offset, uint32_t width) {
    const Wide low = read<Wide>(at + offset / 8) >> (offset % 8);
    const Wide shown = width < 128 ? low & ((Wide{1} << width) - 1) : low;
    const auto high_half = static_cast<uint64_t>(shown >> 64), low_half = static_cast<uint64_t>(shown);
    if (high_half != 0) return print("0x%" PRIx64 "%016" PRIx64, high_half, low_half);
    print("0x%" PRIx64, low_half);
  }

  void show_enum(uint32_t id, uint64_t at) {
    begin(id);
    const bool wide = btf_.kind_of(id) == BtfKind::kEnum64;
    const uint64_t found = wide ? read<uint64_t>(at) : read<uint32_t>(at);
    const uint32_t words = wide ? 3 : 2;  // name, value
    for (uint32_t i = 0; i < btf_.vlen(id); ++i) {
      uint64_t value = btf_.extra(id, i * words + 1);
      if (wide) value |= uint64_t{btf_.extra(id, i * words + 2)} << 32;
      if (value != found) continue;
      print_text(btf_.string_at(btf_.extra(id, i * words)));
      return end();
    }
    if (!btf_.kind_flag(id)) {
      print("%" PRIu64, found);
    } else {
      print("%" PRId64, wide ? static_cast<int64_t>(found) : static_cast<int32_t>(found));
    }
    end();
  }

  void show_array(uint32_t id, uint64_t at, uint32_t bits) {
    const uint32_t element = btf_.skip_modifiers(btf_.target(id));
    const BtfKind kind = btf_.kind_of(element);
    const bool stays = kind == BtfKind::kPtr || kind == BtfKind::kArray;
    const uint64_t size = stays ? 0 : btf_.size_of(element).value_or(0);
    in_text_ = kind == BtfKind::kInt && size == 1;
    text_ended_ = false;
    open_aggregate(id);
    for (uint32_t i = 0; i < btf_.array_length(id) && !text_ended_ && text_.size() < limit_; ++i) {
      in_array_ = true;
      member_ = 0;
      show(element, at, bits);
      at += size;
      in_array_ = false;
      member_ = 0;
    }
    in_text_ = text_ended_ = false;
    close_aggregate("]");
  }

  void show_members(uint32_t id, uint64_t at) {
    open_aggregate(id);
    for (uint32_t i = 0; i < btf_.vlen(id); ++i) {
      const BtfMember member = btf_.member(id, i);
      member_ = member.type;
      if (member.bitfield_bits != 0) {
        begin(member.type);
        show_bits(at + member.bit_offset / 8, member.bit_offset % 8, member.bitfield_bits);
        end();
      } else {
        show(member.type, at + member.bit_offset / 8, member.bit_offset % 8);
      }
      member_ = 0;
    }
    close_aggregate("}");
  }

  void show_section(uint32_t id, uint64_t at, uint32_t bits) {
    begin(id);
    text_.append("section (\"").append(btf_.name(id)).append("\") = {");
    for (uint32_t i = 0; i < btf_.vlen(id); ++i) {
      const BtfSectionVariable variable = btf_.section_variable(id, i);
      if (i != 0) text_ += ",";
      show(variable.type, at + variable.offset, bits);
    }
    end();
  }

  const Btf& btf_;
  const std::span<const std::byte> value_;
  std::string& text_;
  const size_t limit_;  // elements may have no size: there may be any number of them
  uint32_t depth_ = 0;
  uint32_t type_ = 0;        // being shown; 0: just ended
  uint32_t member_ = 0;      // type of the member that is being shown
  bool in_array_ = false;    // an element of an array is being shown
  bool in_text_ = false;     // ... of one-byte integers
  bool text_ended_ = false;  // ... and the 0 was met
};

}  // namespace

void show_value(const Btf& btf, uint32_t id, std::span<const std::byte> value, std::string& text) {
  Shower(btf, value, text).show(id, 0, 0);
}

}  // namespace skep
