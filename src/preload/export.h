// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Marks the definition of a function that programs are to find instead of libc's.
#define SKEP_TAKES extern "C" __attribute__((visibility("default")))

/// Makes `other`, a name of libc for the same function (the 64-bit one, the fortified one), lead to the definition of
/// `function`, whose symbol is `symbol`.
#define SKEP_TAKES_SYMBOL_ALSO(other, function, symbol) \
  SKEP_TAKES decltype(::function) skep_##other __asm__(#other) __attribute__((alias(#symbol)))
#define SKEP_TAKES_ALSO(other, function) SKEP_TAKES_SYMBOL_ALSO(other, function, function)
