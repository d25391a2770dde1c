// SPDX-License-Identifier: Apache-2.0
#include "object/digest.h"

#include <bit>
#include <cstring>

namespace skep {
namespace {

constexpr size_t kBlock = 64;

uint32_t load_big_endian(const std::byte* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return std::endian::native == std::endian::little ? __builtin_bswap32(word) : word;
}

void store_big_endian(uint8_t* to, uint32_t word) {
  if (std::endian::native == std::endian::little) word = __builtin_bswap32(word);
  std::memcpy(to, &word, sizeof word);
}

/// Feeds whole blocks to `compress`, the last one or two with the padding that both algorithms share.
template <class Compress>
void for_each_block(std::span<const std::byte> data, Compress compress) {
  const uint64_t bits = uint64_t{data.size()} * 8;
  while (data.size() >= kBlock) {
    compress(data.data());
    data = data.subspan(kBlock);
  }
  std::array<std::byte, 2 * kBlock> tail{};
  if (!data.empty()) std::memcpy(tail.data(), data.data(), data.size());
  tail[data.size()] = std::byte{0x80};
  const size_t length = data.size() + 1 + 8 <= kBlock ? kBlock : 2 * kBlock;
  for (size_t i = 0; i < 8; ++i) tail[length - 1 - i] = static_cast<std::byte>(bits >> (8 * i));
  for (size_t offset = 0; offset < length; offset += kBlock) compress(tail.data() + offset);
}

template <size_t Words>
std::array<uint8_t, Words * 4> to_bytes(const std::array<uint32_t, Words>& state) {
  std::array<uint8_t, Words * 4> digest;
  for (size_t i = 0; i < Words; ++i) store_big_endian(&digest[i * 4], state[i]);
  return digest;
}

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> kSha256Constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void compress_sha256(std::array<uint32_t, 8>& state, const std::byte* block) {
  uint32_t w[64];
  for (size_t i = 0; i < 16; ++i) w[i] = load_big_endian(block + 4 * i);
  for (size_t i = 16; i < 64; ++i) {
    const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (size_t i = 0; i < 64; ++i) {
    const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kSha256Constants[i] + w[i];
    const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const uint32_t round[8] = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state[i] += round[i];
}

void compress_sha1(std::array<uint32_t, 5>& state, const std::byte* block) {
  uint32_t w[80];
  for (size_t i = 0; i < 16; ++i) w[i] = load_big_endian(block + 4 * i);
  for (size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  auto [a, b, c, d, e] = state;
  for (size_t i = 0; i < 80; ++i) {
    uint32_t mix;
    if (i < 20) {
      mix = ((b & c) | (~b & d)) + 0x5a827999;
    } else if (i < 40) {
      mix = (b ^ c ^ d) + 0x6ed9eba1;
    } else if (i < 60) {
      mix = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    } else {
      mix = (b ^ c ^ d) + 0xca62c1d6;
    }
    const uint32_t next = std::rotl(a, 5) + mix + e + w[i];
    e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
  }
  const uint32_t round[5] = {a, b, c, d, e};
  for (size_t i = 0; i < 5; ++i) state[i] += round[i];
}

}  // namespace

std::array<uint8_t, 32> sha256(std::span<const std::byte> data) {
  std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for_each_block(data, [&](const std::byte* block) { compress_sha256(state, block); });
  return to_bytes(state);
}

std::array<uint8_t, 20> sha1(std::span<const std::byte> data) {
  std::array<uint32_t, 5> state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for_each_block(data, [&](const std::byte* block) { compress_sha1(state, block); });
  return to_bytes(state);
}

}  // namespace skep
