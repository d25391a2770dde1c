// SPDX-License-Identifier: Apache-2.0
#include "prog/print_format.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "prog/safe_read.h"

namespace skep {
namespace {

/// The kernel copies arguments into a buffer of this size first; what strings fill of it limits what follows.
constexpr size_t kArgumentSpace = 512;

struct Conversion {
  bool left = false, plus = false, space = false, zero = false;
  int width = 0;  // 0: none
};

class Formatter {
 public:
  Formatter(char* out, size_t size, std::string_view format, std::span<const uint64_t> arguments)
      : out_(out), size_(size), format_(format), arguments_(arguments) {}

  int64_t run() {
    for (at_ = 0; at_ < format_.size(); ++at_) {
      const char c = format_[at_];
      if (!is_printable(c) && !is_space(c)) return -EINVAL;
      if (c != '%') {
        put(c);
      } else if (peek(1) == '%') {
        ++at_;
        put('%');
      } else if (const int error = convert()) {
        return -error;
      }
    }
    if (size_ > 0) out_[std::min(length_, size_ - 1)] = 0;
    return static_cast<int64_t>(length_);
  }

 private:
  static bool is_printable(char c) { return c >= 0x20 && c < 0x7f; }
  static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool is_punctuation(char c) { return is_printable(c) && std::ispunct(static_cast<unsigned char>(c)) != 0; }
  static bool ends_conversion(char c) { return c == 0 || is_space(c) || is_punctuation(c); }

  /// The character `ahead` of the current one; NUL behind the end.
  [[nodiscard]] char peek(size_t ahead) const { return at_ + ahead < format_.size() ? format_[at_ + ahead] : '\0'; }

  void put(char c) {
    if (length_ + 1 < size_) out_[length_] = c;
    ++length_;
  }
  void put(std::string_view text) {
    for (const char c : text) put(c);
  }
  void put_padded(std::string_view text, const Conversion& conversion) {
    const size_t width = static_cast<size_t>(conversion.width);
    const size_t padding = width > text.size() ? width - text.size() : 0;
    if (!conversion.left) pad(padding);
    put(text);
    if (conversion.left) pad(padding);
  }
  void pad(size_t count) {
    for (; count > 0; --count) put(' ');
  }

  /// Takes room in the argument buffer; false: it is full.
  bool take_space(size_t bytes) {
    if (bytes >= 4) used_ = (used_ + 3) / 4 * 4;
    if (used_ + bytes > kArgumentSpace) return false;
    used_ += bytes;
    return true;
  }

  /// One conversion; at_ stands on '%' and is left on its last character. An errno or 0.
  int convert() {
    if (next_ == arguments_.size()) return EINVAL;
    const uint64_t argument = arguments_[next_++];
    Conversion conversion;
    ++at_;
    read_flags(conversion);
    switch (peek(0)) {
      case 'p':
        return convert_pointer(conversion, argument);
      case 's':
        return convert_string(conversion, argument);
      case 'c':
        if (!take_space(1)) return ENOSPC;
        put_padded({reinterpret_cast<const char*>(&argument), 1}, conversion);
        return 0;
      default:
        return convert_number(conversion, argument);
    }
  }

  void read_flags(Conversion& conversion) {
    for (;; ++at_) {
      switch (peek(0)) {
        case '0':
          conversion.zero = true;
          continue;
        case '+':
          conversion.plus = true;
          continue;
        case '-':
          conversion.left = true;
          continue;
        case ' ':
          conversion.space = true;
          continue;
        default:
          break;
      }
      break;
    }
    for (; peek(0) >= '0' && peek(0) <= '9'; ++at_) {
      conversion.width = std::min(conversion.width * 10 + (peek(0) - '0'), kMaxWidth);
    }
  }

  int convert_number(const Conversion& conversion, uint64_t argument) {
    bool wide = false;
    for (int i = 0; i < 2 && peek(0) == 'l'; ++i, ++at_) wide = true;
    const char kind = peek(0);
    if (kind == 0 || std::strchr("diuxX", kind) == nullptr) return EINVAL;
    if (!take_space(wide ? 8 : 4)) return ENOSPC;
    std::string_view sign;
    uint64_t magnitude = wide ? argument : static_cast<uint32_t>(argument);
    if (kind == 'd' || kind == 'i') {
      const int64_t value = wide ? static_cast<int64_t>(argument) : int64_t{static_cast<int32_t>(argument)};
      magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
      sign = value < 0 ? "-" : conversion.plus ? "+" : conversion.space ? " " : "";
    }
    put_number(conversion, sign, magnitude, kind == 'x' || kind == 'X' ? 16 : 10, kind == 'X');
    return 0;
  }

  /// `base` 10 or 16; hexadecimal digits in lower case unless `upper`.
  void put_number(const Conversion& conversion, std::string_view sign, uint64_t magnitude, unsigned base,
                  bool upper = false) {
    char digits[24];
    const char* const set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char* first = digits + sizeof digits;
    do {
      *--first = set[magnitude % base];
      magnitude /= base;
    } while (magnitude != 0);
    const auto count = static_cast<size_t>(digits + sizeof digits - first);
    const size_t total = sign.size() + count;
    const size_t width = static_cast<size_t>(conversion.width);
    const size_t padding = width > total ? width - total : 0;
    const bool zeros = conversion.zero && !conversion.left;
    if (!zeros && !conversion.left) pad(padding);
    put(sign);
    if (zeros) put_zeros(padding);
    put({first, count});
    if (conversion.left) pad(padding);
  }
  void put_zeros(size_t count) {
    for (; count > 0; --count) put('0');
  }

  int convert_string(const Conversion& conversion, uint64_t argument) {
    if (!ends_conversion(peek(1))) return EINVAL;
    if (used_ == kArgumentSpace) return ENOSPC;
    std::array<char, kArgumentSpace> text;
    const auto copied = safe_read_string(text.data(), argument, kArgumentSpace - used_);
    const size_t bytes = copied.value_or(1);
    used_ += bytes;
    put_padded({text.data(), bytes - 1}, conversion);
    return 0;
  }

  int convert_pointer(const Conversion& conversion, uint64_t argument) {
    const char kind = peek(1);
    if ((kind == 'k' || kind == 'u') && peek(2) == 's') {
      at_ += 2;
      return convert_string(conversion, argument);
    }
    if (kind == 'i' || kind == 'I') return convert_address(argument);
    if (!take_space(8)) return ENOSPC;
    if (ends_conversion(kind)) {
      put_pointer(conversion, obscure(argument));
      return 0;
    }
    ++at_;
    switch (kind) {
      case 'K':
        put_pointer(conversion, obscure(argument));
        return 0;
      case 'x':
        put_pointer(conversion, argument);
        return 0;
      case 's':
      case 'S':
      case 'B': {
        char text[24];
        const int count = std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(argument));
        put_padded({text, static_cast<size_t>(count)}, conversion);
        return 0;
      }
      default:
        return EINVAL;
    }
  }

  void put_pointer(Conversion conversion, uint64_t value) {
    if (conversion.width == 0) {
      conversion.width = 16;
      conversion.zero = true;
    }
    put_number(conversion, "", value, 16);
  }

  /// A number that stands for an address without telling it: the same for the same address as long as the process
  /// lives. Null is told.
  static uint64_t obscure(uint64_t address) {
    if (address == 0) return 0;
    static const uint64_t secret = [] {
      uint64_t random = 0;
      return getrandom(&random, sizeof random, 0) == static_cast<ssize_t>(sizeof random) ? random : 0x9e3779b97f4a7c15;
    }();
    uint64_t mixed = address ^ secret;  // the finaliser of splitmix64
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return static_cast<uint32_t>(mixed ^ (mixed >> 31));
  }

  /// %pi4 and %pi6 in fixed width, %pI4 and %pI6 as addresses are commonly written.
  int convert_address(uint64_t argument) {
    const bool dense = peek(1) == 'i';
    const char version = peek(2);
    if (version != '4' && version != '6') return EINVAL;
    at_ += 2;
    std::array<uint8_t, 16> bytes{};
    const size_t size = version == '4' ? 4 : 16;
    if (!safe_read(bytes.data(), argument, size)) bytes.fill(0);
    char text[48];
    size_t count = 0;
    if (version == '4') {
      count = static_cast<size_t>(std::snprintf(text, sizeof text, dense ? "%03u.%03u.%03u.%03u" : "%u.%u.%u.%u",
                                                bytes[0], bytes[1], bytes[2], bytes[3]));
    } else {
      for (size_t i = 0; i < 16; i += 2) {
        const char* how = dense || i == 0 ? "%02x%02x" : ":%02x%02x";
        count += static_cast<size_t>(std::snprintf(text + count, sizeof text - count, how, bytes[i], bytes[i + 1]));
      }
    }
    if (!take_space(count + 1)) return ENOSPC;
    put({text, count});
    return 0;
  }

  static constexpr int kMaxWidth = 1 << 15;

  char* out_;
  size_t size_;
  std::string_view format_;
  std::span<const uint64_t> arguments_;
  size_t at_ = 0;
  size_t next_ = 0;    // argument
  size_t used_ = 0;    // of the argument space
  size_t length_ = 0;  // of the text so far, whether it fitted or not
};

}  // namespace

int64_t format_print(char* out, size_t size, std::string_view format, std::span<const uint64_t> arguments) {
  return Formatter(out, size, format, arguments).run();
}

}  // namespace skep
