/* SPDX-License-Identifier: Apache-2.0 */
/* What every measured loop does to get its next key: the same in C++ and in the kernel's programs. */
#ifndef SKEP_BENCH_LOOP_PARAMETERS_H
#define SKEP_BENCH_LOOP_PARAMETERS_H

#define BENCH_LCG_FACTOR 6364136223846793005ull
#define BENCH_LCG_TERM 1442695040888963407ull
#define BENCH_SCRAMBLE 0x9e3779b97f4a7c15ull

/* The next uniformly random number below 2^32. */
#define BENCH_NEXT(state) ((state) = (state)*BENCH_LCG_FACTOR + BENCH_LCG_TERM, (state) >> 32)
/* Which of `entries` keys that number chooses. */
#define BENCH_INDEX(random, entries) (((random) * (entries)) >> 32)
/* Key number `index`: all 64 bits of it vary, and no two are equal. */
#define BENCH_KEY(index) ((index)*BENCH_SCRAMBLE)

#endif
