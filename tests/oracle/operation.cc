// SPDX-License-Identifier: Apache-2.0
#include "operation.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

namespace skep::oracle {
namespace {

std::string hex(const std::vector<uint8_t>& bytes, size_t most = 200) {
  std::string text;
  char pair[4];
  for (size_t i = 0; i < std::min(bytes.size(), most); ++i) {
    snprintf(pair, sizeof pair, "%02x", bytes[i]);
    text += pair;
    if (i % 8 == 7) text += ' ';
  }
  if (bytes.size() > most) text += "...";
  return text;
}

const char* error_name(int error) {
  if (error == SKEP_ENOTSUPP) return "ENOTSUPP(524)";
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "?";
}

std::string describe_result(const Outcome& outcome) {
  if (outcome.result >= 0) return std::to_string(outcome.result);
  return std::string("-1 ") + error_name(outcome.error);
}

/// The elements of a finished batch, sorted by key.
std::multimap<std::vector<uint8_t>, std::vector<uint8_t>> batch_elements(const Operation& operation,
                                                                         const Outcome& outcome) {
  uint32_t count;
  std::memcpy(&count, outcome.attr.data() + 32, 4);
  std::multimap<std::vector<uint8_t>, std::vector<uint8_t>> elements;
  const auto& keys = outcome.buffers.at(0);
  const auto& values = outcome.buffers.at(1);
  for (uint32_t i = 0; i < count; ++i) {
    const auto* key = keys.data() + size_t{i} * operation.batch_key_size;
    const auto* value = values.data() + size_t{i} * operation.batch_value_size;
    elements.emplace(std::vector<uint8_t>(key, key + operation.batch_key_size),
                     std::vector<uint8_t>(value, value + operation.batch_value_size));
  }
  return elements;
}

}  // namespace

bool Operation::has_raw_pointer() const {
  return std::ranges::any_of(buffers, [](const Buffer& buffer) { return buffer.raw; });
}

std::string Operation::describe() const {
  std::string text = "cmd " + std::to_string(command) + " size " + std::to_string(size) + " attr " + hex(attr);
  for (const auto& buffer : buffers) {
    text += "\n    pointer at " + std::to_string(buffer.attr_offset) + ": ";
    text += buffer.raw ? "raw kind " + std::to_string(static_cast<int>(buffer.raw_kind)) + " address " +
                             std::to_string(buffer.raw_address)
                       : std::to_string(buffer.content.size()) + " bytes " + hex(buffer.content, 64);
  }
  for (const auto& field : descriptors) {
    text += "\n    descriptor at " + std::to_string(field.attr_offset) + ": " +
            (field.kind == DescriptorField::Kind::kMap ? "map " : "btf ") + std::to_string(field.number);
  }
  return text;
}

Outcome execute(const Operation& operation, const Side& side, GuardedArena& arena) {
  arena.reset();
  std::vector<uint8_t> attr = operation.attr;
  std::vector<uint8_t*> addresses;
  for (const auto& buffer : operation.buffers) {
    uint64_t pointer = buffer.raw_address;
    uint8_t* memory = nullptr;
    if (!buffer.raw) {
      memory = arena.allocate(buffer.content.size());
      if (!buffer.content.empty()) std::memcpy(memory, buffer.content.data(), buffer.content.size());
      pointer = reinterpret_cast<uint64_t>(memory);
    } else if (buffer.raw_kind == Buffer::Raw::kForbidden) {
      pointer = arena.forbidden_address();
    } else if (buffer.raw_kind == Buffer::Raw::kReadOnly) {
      pointer = arena.read_only_address();
    }
    addresses.push_back(memory);
    if (buffer.attr_offset + 8 <= attr.size()) std::memcpy(attr.data() + buffer.attr_offset, &pointer, 8);
  }
  for (const auto& field : operation.descriptors) {
    const int fd = field.kind == DescriptorField::Kind::kMap ? side.maps.at(field.number) : side.btfs.at(field.number);
    if (field.attr_offset + 4 <= attr.size()) std::memcpy(attr.data() + field.attr_offset, &fd, 4);
  }
  uint8_t* attr_memory = arena.allocate(attr.size());
  if (!attr.empty()) std::memcpy(attr_memory, attr.data(), attr.size());

  Outcome outcome;
  errno = 0;
  outcome.result =
      side.bpf(operation.command, operation.null_attr ? nullptr : reinterpret_cast<union bpf_attr*>(attr_memory),
               operation.size);
  outcome.error = outcome.result < 0 ? errno : 0;
  outcome.attr.assign(attr_memory, attr_memory + attr.size());
  for (size_t i = 0; i < addresses.size(); ++i) {
    const size_t size = addresses[i] == nullptr ? 0 : operation.buffers[i].content.size();
    auto& after = outcome.buffers.emplace_back(addresses[i], addresses[i] + size);
    for (const auto& [from, to] : operation.buffers[i].ignored) {
      for (size_t byte = from; byte < std::min<size_t>(to, size); ++byte) after[byte] = 0;
    }
  }
  // Pointers and descriptors differ between the sides; what was written around them must not.
  for (const auto& buffer : operation.buffers) {
    if (buffer.attr_offset + 8 <= outcome.attr.size()) std::memset(outcome.attr.data() + buffer.attr_offset, 0, 8);
  }
  for (const auto& field : operation.descriptors) {
    if (field.attr_offset + 4 <= outcome.attr.size()) std::memset(outcome.attr.data() + field.attr_offset, 0, 4);
  }
  return outcome;
}

std::string difference(const Operation& operation, const Outcome& kernel, const Outcome& skep) {
  if (operation.compare == Operation::Compare::kNothing) return "";
  const bool both_descriptors = operation.returns_descriptor && kernel.result >= 0 && skep.result >= 0;
  if (!both_descriptors && (kernel.result != skep.result || kernel.error != skep.error)) {
    return "kernel " + describe_result(kernel) + ", skep " + describe_result(skep);
  }
  // Where a pointer was bad, how far the copying came is not part of the contract.
  if (operation.compare == Operation::Compare::kResult || operation.has_raw_pointer()) return "";
  auto kernel_attr = kernel.attr;
  auto skep_attr = skep.attr;
  for (size_t i = operation.ignore_attr_from; i < std::min<size_t>(operation.ignore_attr_to, kernel_attr.size()); ++i) {
    kernel_attr[i] = skep_attr[i] = 0;
  }
  if (kernel_attr != skep_attr) return "attr: kernel " + hex(kernel_attr) + "\n    skep " + hex(skep_attr);
  size_t first = 0;
  if (operation.compare == Operation::Compare::kSortedBatch) {
    const auto of_kernel = batch_elements(operation, kernel);
    const auto of_skep = batch_elements(operation, skep);
    const auto [in_kernel, in_skep] = std::ranges::mismatch(of_kernel, of_skep);
    if (in_kernel != of_kernel.end()) {
      return "batch elements differ: kernel " + hex(in_kernel->first) + " = " + hex(in_kernel->second, 2000) +
             "\n    skep " + hex(in_skep->first) + " = " + hex(in_skep->second, 2000);
    }
    first = 2;
  }
  for (size_t i = first; i < kernel.buffers.size(); ++i) {
    if (kernel.buffers[i] == skep.buffers[i]) continue;
    const auto where = std::ranges::mismatch(kernel.buffers[i], skep.buffers[i]).in1 - kernel.buffers[i].begin();
    return "buffer " + std::to_string(i) + " differs from byte " + std::to_string(where) + ": kernel " +
           hex(kernel.buffers[i]) + "\n    skep " + hex(skep.buffers[i]);
  }
  return "";
}

}  // namespace skep::oracle
