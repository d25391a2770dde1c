// SPDX-License-Identifier: Apache-2.0
#include "prog/user_stack.h"

#include <link.h>
#include <unwind.h>

#include <algorithm>
#include <cstring>

namespace skep {
namespace {

/// The addresses of the shared library that this code is part of; empty when it is the program itself.
struct OwnLibrary {
  uint64_t begin = 0, end = 0;
  [[nodiscard]] bool holds(uint64_t address) const { return address >= begin && address < end; }
};

int find_own_library(dl_phdr_info* info, size_t, void* data) {
  const auto self = reinterpret_cast<uint64_t>(&user_stack);
  OwnLibrary found{UINT64_MAX, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    found.begin = std::min<uint64_t>(found.begin, info->dlpi_addr + part.p_vaddr);
    found.end = std::max<uint64_t>(found.end, info->dlpi_addr + part.p_vaddr + part.p_memsz);
  }
  if (!found.holds(self)) return 0;
  const bool is_program = info->dlpi_name == nullptr || info->dlpi_name[0] == 0;
  if (!is_program) *static_cast<OwnLibrary*>(data) = found;
  return 1;
}

const OwnLibrary& own_library() {
  static const OwnLibrary library = [] {
    OwnLibrary found;
    dl_iterate_phdr(find_own_library, &found);
    return found;
  }();
  return library;
}

struct Walk {
  uint64_t entry;
  const OwnLibrary& own;
  uint64_t* addresses;
  uint32_t room;
  uint32_t count = 0;
};

_Unwind_Reason_Code visit(_Unwind_Context* context, void* data) {
  auto& walk = *static_cast<Walk*>(data);
  if (walk.count == walk.room) return _URC_END_OF_STACK;
  const uint64_t address = _Unwind_GetIP(context);
  if (address == 0) return _URC_END_OF_STACK;
  const bool inside = walk.count == 0 && (_Unwind_GetCFA(context) <= walk.entry || walk.own.holds(address));
  if (!inside) walk.addresses[walk.count++] = address;
  return _URC_NO_REASON;
}

struct Search {
  uint64_t address;
  BuildIdFrame* frame;
};

/// The build id among the notes of `size` bytes at `notes`, copied; false: there is none.
bool copy_build_id(const std::byte* notes, uint64_t size, BuildIdFrame& frame) {
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof note);
    const uint64_t name = (uint64_t{note.n_namesz} + 3) & ~uint64_t{3};
    const uint64_t content = (uint64_t{note.n_descsz} + 3) & ~uint64_t{3};
    if (name + content > size - sizeof note) return false;
    const std::byte* const id = notes + sizeof note + name;
    const bool gnu = note.n_namesz == 4 && std::memcmp(notes + sizeof note, "GNU", 4) == 0;
    if (gnu && note.n_type == NT_GNU_BUILD_ID && note.n_descsz > 0 && note.n_descsz <= sizeof frame.build_id) {
      std::memcpy(frame.build_id, id, note.n_descsz);
      return true;
    }
    notes = id + content;
    size -= sizeof note + name + content;
  }
  return false;
}

int find_build_id(dl_phdr_info* info, size_t, void* data) {
  const auto& search = *static_cast<const Search*>(data);
  const auto* const begin = info->dlpi_phdr;
  const auto* const end = begin + info->dlpi_phnum;
  const auto* const part = std::find_if(begin, end, [&](const auto& one) {
    return one.p_type == PT_LOAD && search.address - (info->dlpi_addr + one.p_vaddr) < one.p_memsz;
  });
  if (part == end) return 0;
  for (const auto* note = begin; note != end; ++note) {
    if (note->p_type != PT_NOTE) continue;
    const auto* const notes = reinterpret_cast<const std::byte*>(info->dlpi_addr + note->p_vaddr);
    if (!copy_build_id(notes, note->p_memsz, *search.frame)) continue;
    search.frame->status = BuildIdFrame::kValid;
    search.frame->offset = search.address - (info->dlpi_addr + part->p_vaddr) + part->p_offset;
    return 1;
  }
  return 1;
}

}  // namespace

uint32_t user_stack(const void* entry, uint64_t* addresses, uint32_t room) {
  Walk walk{reinterpret_cast<uint64_t>(entry), own_library(), addresses, room};
  _Unwind_Backtrace(visit, &walk);
  return walk.count;
}

BuildIdFrame build_id_of(uint64_t address) {
  BuildIdFrame frame{.status = BuildIdFrame::kAddress, .build_id = {}, .offset = address};
  Search search{address, &frame};
  dl_iterate_phdr(find_build_id, &search);
  return frame;
}

}  // namespace skep
