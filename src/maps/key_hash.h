// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace skep {

/// The keyed hash of the hash maps: 64 bits from a key of a fixed size and the map's 256-bit secret.
///
/// A map that strangers can choose keys for (addresses, ports, names) must not let them choose a chain: without the
/// seed nobody can. Two functions, chosen when the map is created and recorded in it:
/// - kAes: two AES rounds for each 16-byte block and three to finish, keyed by the seed. About 3 ns; the S-box makes
///   every output bit depend on every input bit and on the key in a nonlinear way, which multiplicative and CRC
///   hashes, fast as they are, do not. Not a MAC: nobody sees its output, an attacker has timing at most.
/// - kSipHash: SipHash-1-3 (Aumasson, Bernstein 2012) for CPUs without AES instructions; about three times the time.
///
/// The instruction stands in an asm statement so that it inlines into every lookup; a target attribute would not.
class KeyHash {
 public:
  enum class Function : uint32_t { kSipHash = 1, kAes = 2 };

  /// The best function that this CPU has.
  static Function best();
  static bool supported(Function function);

  KeyHash(Function function, const uint64_t (&seed)[4]) : aes_(function == Function::kAes) {
    std::memcpy(seed_, seed, sizeof(seed_));
  }

  /// kKeySize: the key's size where it is known to the compiler, else 0 and `key_size` counts.
  template <uint32_t kKeySize>
  [[nodiscard]] uint64_t of(const void* key, uint32_t key_size) const {
#if defined(__x86_64__)
    if (aes_) [[likely]] {
      const __m128i k0 = _mm_load_si128(reinterpret_cast<const __m128i*>(seed_));
      const __m128i k1 = _mm_load_si128(reinterpret_cast<const __m128i*>(seed_ + 2));
      __m128i state = k0;
      if constexpr (kKeySize == 4) {
        uint32_t word;
        std::memcpy(&word, key, 4);
        state = _mm_xor_si128(state, _mm_cvtsi32_si128(static_cast<int>(word)));
      } else if constexpr (kKeySize == 8) {
        state = _mm_xor_si128(state, _mm_loadl_epi64(static_cast<const __m128i*>(key)));
      } else if constexpr (kKeySize == 16) {
        state = _mm_xor_si128(state, _mm_loadu_si128(static_cast<const __m128i*>(key)));
      } else {
        const auto* bytes = static_cast<const unsigned char*>(key);
        for (; key_size > 16; key_size -= 16, bytes += 16) {
          state = _mm_xor_si128(state, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
          state = round(round(state, k1), k0);
        }
        alignas(16) unsigned char last[16] = {};
        std::memcpy(last, bytes, key_size);
        state = _mm_xor_si128(state, _mm_load_si128(reinterpret_cast<const __m128i*>(last)));
      }
      state = round(round(round(state, k1), k0), k1);
      return static_cast<uint64_t>(_mm_cvtsi128_si64(state));
    }
#endif
    return sip_hash(key, kKeySize != 0 ? kKeySize : key_size);
  }

 private:
#if defined(__x86_64__)
  static __m128i round(__m128i state, __m128i key) {
    asm("aesenc %1, %0" : "+x"(state) : "x"(key));
    return state;
  }
#endif
  [[nodiscard]] uint64_t sip_hash(const void* key, uint32_t key_size) const;

  alignas(16) uint64_t seed_[4];
  bool aes_;
};

}  // namespace skep
