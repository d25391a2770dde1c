// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace skep {

/// Formats as bpf_trace_printk() and bpf_snprintf() of Linux 6.18 do.
///
/// Conversions: %d %i %u %x %X with l and ll; %c; %s, %pks, %pus (strings at any address of this process, read without
/// faulting); %p, %pK (an address, obscured), %px (an address), %ps, %pS, %pB (a symbol, of which there is none: the
/// address); %pi4 %pI4 %pi6 %pI6; %%. Flags 0, +, -, space and a width. All else is EINVAL, as is a byte that is
/// neither printable nor white space, or more conversions than arguments.
///
/// Writes at most `size` bytes to `out`, the last of them NUL (nothing for size 0). Returns the length of the whole
/// text without the NUL, or a negative errno.
int64_t format_print(char* out, size_t size, std::string_view format, std::span<const uint64_t> arguments);

}  // namespace skep
