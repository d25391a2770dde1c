// SPDX-License-Identifier: Apache-2.0
// What BPF_OBJ_GET_INFO_BY_FD and /proc/<pid>/fdinfo say of a program.
#include <algorithm>
#include <cstring>

#include "syscall/prog_commands.h"

namespace skep {
namespace {

/// A list of which the client asks for `*count` entries at `user`, of `size` bytes each; it is told how many there are.
template <class T>
Status copy_list(uint64_t user, uint32_t& count, const T* entries, size_t have, size_t size = sizeof(T)) {
  const size_t wanted = std::min<size_t>(count, have);
  count = static_cast<uint32_t>(have);
  if (wanted == 0) return {};
  return write_user(user, entries, wanted * size) ? Status{} : Status(fail(EFAULT));
}

/// The record sizes that the client believes in: ours, or none of both size and count, and then it is told.
Status agree_on_size(uint32_t count, uint32_t& size, uint32_t ours) {
  if ((count != 0 || size != 0) && size != ours) return fail(EINVAL);
  size = ours;
  return {};
}

void describe_facts(const ProgramFace& face, uint32_t id, bpf_prog_info& info) {
  const ProgramFacts& facts = face.image().facts;
  info.type = facts.type;
  info.id = id;
  std::memcpy(info.tag, facts.tag, sizeof info.tag);
  info.load_time = facts.load_time;
  info.created_by_uid = facts.created_by_uid;
  std::memcpy(info.name, facts.name, sizeof info.name);
  info.ifindex = 0;
  info.gpl_compatible = facts.gpl_compatible & 1;
  info.skep_pad = 0;
  info.netns_dev = 0;
  info.netns_ino = 0;
  info.btf_id = facts.btf_id;
  info.verified_insns = facts.verified_instructions;
  info.attach_btf_obj_id = 0;
  info.attach_btf_id = facts.attach_btf_id;
  info.run_cnt = face.counters().runs.load(std::memory_order_relaxed);
  info.run_time_ns = face.counters().nanoseconds.load(std::memory_order_relaxed);
  info.recursion_misses = 0;
}

/// Programs are interpreted: there is no machine code to show.
void describe_machine_code(bpf_prog_info& info) {
  info.jited_prog_len = 0;
  info.nr_jited_ksyms = 0;
  info.nr_jited_func_lens = 0;
  info.nr_jited_line_info = 0;
}

Status copy_lists(const ProgramFace& face, bpf_prog_info& info) {
  const ProgramImage& image = face.image();
  const std::vector<uint32_t> maps = face.map_ids();
  if (Status status = copy_list(info.map_ids, info.nr_map_ids, maps.data(), maps.size()); !status) return status;

  const uint32_t wanted = info.xlated_prog_len;
  info.xlated_prog_len = static_cast<uint32_t>(image.instructions.size() * sizeof(bpf_insn));
  if (wanted != 0) {
    const std::vector<bpf_insn> code = visible_instructions(image);
    if (!write_user(info.xlated_prog_insns, code.data(), std::min(wanted, info.xlated_prog_len))) return fail(EFAULT);
  }
  Status status =
      copy_list(info.func_info, info.nr_func_info, image.function_infos.data(), image.function_infos.size());
  if (status) status = copy_list(info.line_info, info.nr_line_info, image.line_infos.data(), image.line_infos.size());
  if (!status) return status;

  std::vector<uint8_t> tags;
  if (image.functions.size() == 1) {
    tags.assign(std::begin(image.facts.tag), std::end(image.facts.tag));
  } else {
    for (const ProgramFunction& function : image.functions) {
      tags.insert(tags.end(), std::begin(function.tag), std::end(function.tag));
    }
  }
  return copy_list(info.prog_tags, info.nr_prog_tags, tags.data(), tags.size() / BPF_TAG_SIZE, BPF_TAG_SIZE);
}

}  // namespace

Answer prog_info(Caller& caller, const OpenObject& object) {
  const auto size = check_info_size(caller.attr.info.info, caller.attr.info.info_len, sizeof(bpf_prog_info));
  if (!size) return std::unexpected(size.error());
  bpf_prog_info info{};
  if (!read_user(&info, caller.attr.info.info, *size)) return fail(EFAULT);
  const ProgramFace& face = program_of(object);
  describe_facts(face, object.id, info);
  Status status = agree_on_size(info.nr_func_info, info.func_info_rec_size, sizeof(bpf_func_info));
  if (status) status = agree_on_size(info.nr_line_info, info.line_info_rec_size, sizeof(bpf_line_info));
  if (status) status = agree_on_size(info.nr_jited_line_info, info.jited_line_info_rec_size, sizeof(uint64_t));
  if (status) status = copy_lists(face, info);
  if (!status) return std::unexpected(status.error());
  describe_machine_code(info);
  return finish_info(caller, &info, *size);
}

std::string tag_text(const ProgramFacts& facts) {
  std::string text;
  for (const uint8_t byte : facts.tag) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string prog_fdinfo(const OpenObject& object) {
  const ProgramFace& face = program_of(object);
  const ProgramFacts& facts = face.image().facts;
  std::string text = "prog_type:\t" + std::to_string(facts.type) + "\nprog_jited:\t0\nprog_tag:\t";
  text += tag_text(facts);
  const uint64_t memory = round_up(kProgramDataOffset + face.image().instructions.size() * sizeof(bpf_insn), kPageSize);
  text += "\nmemlock:\t" + std::to_string(memory) + "\nprog_id:\t" + std::to_string(object.id);
  text += "\nrun_time_ns:\t" + std::to_string(face.counters().nanoseconds.load(std::memory_order_relaxed));
  text += "\nrun_cnt:\t" + std::to_string(face.counters().runs.load(std::memory_order_relaxed));
  text += "\nrecursion_misses:\t0\nverified_insns:\t" + std::to_string(facts.verified_instructions) + "\n";
  return text;
}

}  // namespace skep
