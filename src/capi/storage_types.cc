// SPDX-License-Identifier: Apache-2.0
#include "capi/storage_types.h"

#include "btf/btf_builder.h"
#include "btf/btf_file.h"

namespace skep {
namespace {

/// The type of a value of that many bytes: a number, or as many of the widest number as fit exactly.
uint32_t add_value(BtfBuilder& types, uint32_t index_type, uint32_t bytes) {
  const uint32_t width = bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : bytes % 2 == 0 ? 2 : 1;
  constexpr const char* kNames[] = {"", "unsigned char",     "unsigned short", "", "unsigned int", "", "",
                                    "", "unsigned long long"};
  const uint32_t number = types.integer(kNames[width], width);
  return bytes == width ? number : types.array(number, index_type, bytes / width);
}

}  // namespace

Result<StorageTypes> make_storage_types(Instance& instance, uint32_t value_size) {
  if (value_size == 0) return fail(EINVAL);
  constexpr uint32_t kSigned = 1;
  BtfBuilder builder;
  StorageTypes types;
  types.key = builder.integer("int", 4, kSigned);
  types.value = add_value(builder, types.key, value_size);
  auto file = instance.make_file(ObjectKind::kBtf);
  if (!file) return std::unexpected(file.error());
  types.file = *std::move(file);
  const int fd = types.file.get();
  if (const Status written = write_btf_file(fd, builder.raw()); !written) return std::unexpected(written.error());
  const auto id = instance.publish(ObjectKind::kBtf, fd, [fd](uint32_t given) { store_file_id(fd, given); });
  if (!id) return std::unexpected(id.error());
  types.id = *id;
  return types;
}

}  // namespace skep
