// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include "prog/dynptr_arguments.h"
#include "prog/helpers.h"

namespace skep::helpers {

bool may_become_dynptr(Run& run, uint64_t place) {
  const bool fits = place % 8 == 0 && run.on_stack(place, 16);
  if (!fits) run.stop(EINVAL, "a dynptr must be 16 aligned bytes of the stack");
  return fits;
}

Dynptr* dynptr_argument(Run& run, uint64_t place) {
  Dynptr* const dynptr = run.records().find_dynptr(place);
  if (dynptr == nullptr) run.stop(EINVAL, "the argument is not an initialized dynptr");
  return dynptr;
}

namespace {

/// The bytes [offset, offset + length) of it; null: they are not all inside.
std::byte* slice(const Dynptr& dynptr, uint64_t offset, uint64_t length) {
  return length <= dynptr.size && offset <= dynptr.size - length ? dynptr.data + offset : nullptr;
}

}  // namespace

uint64_t dynptr_from_mem(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  if (!may_become_dynptr(run, d)) return 0;
  const auto size = static_cast<uint32_t>(b);
  if (!run.writable_value(a, size)) {
    run.stop(EFAULT, "bpf_dynptr_from_mem(): argument 1 is not memory of a map value that the program may write");
    return 0;
  }
  const int error = size > Dynptr::kMaxSize ? E2BIG : c != 0 ? EINVAL : 0;
  const auto kind = error == 0 ? Dynptr::Kind::kMemory : Dynptr::Kind::kNull;
  run.records().make_dynptr(d, kind, error == 0 ? memory<std::byte>(a) : nullptr, error == 0 ? size : 0);
  return error_value(error);
}

uint64_t dynptr_read(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  const Dynptr* const source = dynptr_argument(run, c);
  if (source == nullptr) return 0;
  if (source->data == nullptr || e != 0) return error_value(EINVAL);
  const std::byte* const from = slice(*source, static_cast<uint32_t>(d), static_cast<uint32_t>(b));
  if (from == nullptr) return error_value(E2BIG);
  std::memmove(memory<void>(a), from, static_cast<uint32_t>(b));
  return 0;
}

uint64_t dynptr_write(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  const Dynptr* const target = dynptr_argument(run, a);
  if (target == nullptr) return 0;
  if (target->data == nullptr || e != 0) return error_value(EINVAL);
  std::byte* const to = slice(*target, static_cast<uint32_t>(b), static_cast<uint32_t>(d));
  if (to == nullptr) return error_value(E2BIG);
  std::memmove(to, memory<const void>(c), static_cast<uint32_t>(d));
  return 0;
}

uint64_t dynptr_data(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const Dynptr* const dynptr = dynptr_argument(run, a);
  if (dynptr == nullptr || dynptr->data == nullptr) return 0;
  const auto length = static_cast<uint32_t>(c);
  std::byte* const data = slice(*dynptr, static_cast<uint32_t>(b), length);
  if (data != nullptr && length != 0) run.grant_memory(data, length);
  return reinterpret_cast<uint64_t>(data);
}

}  // namespace skep::helpers
