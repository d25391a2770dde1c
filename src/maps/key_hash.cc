// SPDX-License-Identifier: Apache-2.0
#include "maps/key_hash.h"

#include <bit>

namespace skep {
namespace {

struct SipState {
  uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    v0 ^= word;
  }
};

}  // namespace

bool KeyHash::supported(Function function) {
  if (function == Function::kSipHash) return true;
#if defined(__x86_64__)
  return function == Function::kAes && __builtin_cpu_supports("aes");
#else
  return false;
#endif
}

KeyHash::Function KeyHash::best() { return supported(Function::kAes) ? Function::kAes : Function::kSipHash; }

uint64_t KeyHash::sip_hash(const void* key, uint32_t key_size) const {
  SipState state{seed_[0] ^ 0x736f6d6570736575, seed_[1] ^ 0x646f72616e646f6d, seed_[0] ^ 0x6c7967656e657261,
                 seed_[1] ^ 0x7465646279746573};
  const auto* bytes = static_cast<const unsigned char*>(key);
  uint32_t left = key_size;
  for (; left >= 8; left -= 8, bytes += 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    state.absorb(word);
  }
  uint64_t last = uint64_t{key_size & 0xff} << 56;
  for (uint32_t i = 0; i < left; ++i) last |= uint64_t{bytes[i]} << (8 * i);
  state.absorb(last);
  state.v2 ^= 0xff;
  for (int i = 0; i < 3; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace skep
