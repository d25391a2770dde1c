/* SPDX-License-Identifier: Apache-2.0 */
/* The prefixes of the tries that are measured, and the keys that are looked up: the same in C++ and in the kernel. */
#ifndef SKEP_BENCH_LPM_PARAMETERS_H
#define SKEP_BENCH_LPM_PARAMETERS_H

#include "loop_parameters.h"

/* 64 random bits that follow from a number. */
#define LPM_MIX(x) (((x) ^ ((x) >> 31)) * 0xbf58476d1ce4e5b9ull)
#define LPM_BITS(index) (LPM_MIX(LPM_MIX(BENCH_KEY((index) + 1))))
/* IPv4: an address, and how much of it is the prefix: /8 to /32 alike often. */
#define LPM_ADDRESS(index) ((unsigned)(LPM_BITS(index) >> 32))
#define LPM_LENGTH(index) (8 + (unsigned)(LPM_BITS(index) & 0xffff) % 25)
/* 128 bits: within 2000::/3, in 512 blocks of /20, prefixes of /20 to /128. */
#define LPM_HIGH(index) (0x2000000000000000ull | (LPM_BITS(index) & 511) << 44 | (LPM_BITS((index) ^ 0x5555555) >> 20))
#define LPM_LOW(index) (LPM_BITS((index) ^ 0x3333333))
#define LPM_LONG_LENGTH(index) (20 + (unsigned)(LPM_BITS(index) >> 16 & 0xffff) % 109)

struct lpm_key4 {
  unsigned length;
  unsigned address; /* network order */
};
struct lpm_key16 {
  unsigned length;
  unsigned data[4]; /* network order */
};
#define LPM_KEY4(bits, prefix) \
  { .length = (prefix), .address = __builtin_bswap32(bits) }
#define LPM_KEY16(high, low, prefix)               \
  {                                                \
    .length = (prefix), .data = {                  \
      __builtin_bswap32((unsigned)((high) >> 32)), \
      __builtin_bswap32((unsigned)(high)),         \
      __builtin_bswap32((unsigned)((low) >> 32)),  \
      __builtin_bswap32((unsigned)(low))           \
    }                                              \
  }

#endif
