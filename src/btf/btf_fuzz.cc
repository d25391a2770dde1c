// SPDX-License-Identifier: Apache-2.0
// Any bytes as BTF: refused or accepted, and what was accepted answers every question without reading outside.
#include <cstdlib>

#include "btf/btf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using skep::Btf;
  skep::VerifierLog log(skep::VerifierLog::kLevel1);
  const auto parsed = Btf::parse(std::as_bytes(std::span(data, size)), &log);
  if (!parsed) return 0;
  const Btf& btf = **parsed;
  for (uint32_t id = 0; id <= btf.type_count(); ++id) {
    (void)btf.size_of(id);
    (void)btf.is_32bit_int(id);
    (void)btf.value_fields(id);
    (void)btf.name(id);
    (void)btf.skip_modifiers(id);
    (void)btf.array_length(id);
    for (uint32_t i = 0; i <= btf.vlen(id); ++i) {
      if (btf.member(id, i).type >= UINT32_MAX - 1 && btf.section_variable(id, i).offset == UINT32_MAX) std::abort();
      (void)btf.parameter(id, i);
    }
  }
  return 0;
}
