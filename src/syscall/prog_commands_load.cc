// SPDX-License-Identifier: Apache-2.0
// PROG_LOAD, in the order in which Linux 6.18 looks at things.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "btf/btf_file.h"
#include "btf/kernel_btf.h"
#include "maps/arena_map.h"
#include "maps/instruction_array_map.h"
#include "object/digest.h"
#include "prog/opcode.h"
#include "prog/program_image_check.h"
#include "syscall/arena_window.h"
#include "syscall/log_buffer.h"
#include "syscall/object_name_check.h"
#include "syscall/prog_commands.h"
#include "syscall/program_owner.h"

namespace skep {
namespace {

constexpr uint32_t kKnownFlags = BPF_F_STRICT_ALIGNMENT | BPF_F_ANY_ALIGNMENT | BPF_F_TEST_RND_HI32 |
                                 BPF_F_TEST_STATE_FREQ | BPF_F_SLEEPABLE | BPF_F_XDP_HAS_FRAGS |
                                 BPF_F_XDP_DEV_BOUND_ONLY | BPF_F_TEST_REG_INVARIANTS;
constexpr size_t kMaxLicense = 128;
constexpr uint32_t kMaxRecord = 252;            // bytes of a func_info or line_info record
constexpr uint32_t kMaxValueOffset = 1U << 29;  // of a direct value address
constexpr uint32_t kCgroupEgress = 1;           // BPF_CGROUP_INET_EGRESS; INGRESS is 0

bool is_tracing(uint32_t type) {
  return type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_TRACEPOINT || type == BPF_PROG_TYPE_RAW_TRACEPOINT;
}

/// Whether programs that may fault and wait can have a map of that type.
bool sleepable_may_use(uint32_t map_type) {
  switch (map_type) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_RHASH:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
    case BPF_MAP_TYPE_RINGBUF:
    case BPF_MAP_TYPE_USER_RINGBUF:
    case BPF_MAP_TYPE_INODE_STORAGE:
    case BPF_MAP_TYPE_SK_STORAGE:
    case BPF_MAP_TYPE_TASK_STORAGE:
    case BPF_MAP_TYPE_CGRP_STORAGE:
    case BPF_MAP_TYPE_QUEUE:
    case BPF_MAP_TYPE_STACK:
    case BPF_MAP_TYPE_ARENA:
    case BPF_MAP_TYPE_INSN_ARRAY:
      return true;
    default:
      return false;
  }
}

bool is_gpl(std::string_view license) {
  constexpr std::string_view kCompatible[] = {"GPL",          "GPL v2",       "GPL and additional rights",
                                              "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"};
  return std::ranges::find(kCompatible, license) != std::end(kCompatible);
}

/// One load on its way.
class Loader {
 public:
  explicit Loader(Caller& caller)
      : caller_(caller), attr_(caller.attr), buffer_{attr_.log_buf, attr_.log_size, attr_.log_level}, log_(0) {}

  Answer load() {
    if (Status status = check_attributes(); !status) return std::unexpected(status.error());
    log_ = VerifierLog(buffer_.level);
    Status status = check_program();
    if (status) {
      log_.print("checked %zu insns; what they access is checked while they run\n", image_.instructions.size());
    }
    // What becomes of the log goes before what became of the program.
    if (Status logged = buffer_.finish(log_); !logged) status = logged;
    const uint32_t true_size = buffer_.level != 0 ? log_.true_size() : 0;
    if (!caller_.write_back(offsetof(bpf_attr, log_true_size), true_size, false)) return fail(EFAULT);
    if (!status) return std::unexpected(status.error());
    return publish();
  }

 private:
  using Step = Status (Loader::*)();

  Status check_attributes() {
    for (const Step step : {&Loader::check_flags, &Loader::copy_program, &Loader::check_device, &Loader::check_name}) {
      if (Status status = (this->*step)(); !status) return status;
    }
    return buffer_.check();
  }

  Status check_flags() {
    const uint32_t type = attr_.prog_type, attach = attr_.expected_attach_type;
    if ((attr_.prog_flags & ~kKnownFlags) != 0) return fail(EINVAL);
    if (attr_.insn_cnt == 0 || attr_.insn_cnt > kMaxInstructions) return fail(E2BIG);
    if (type == BPF_PROG_TYPE_TRACING) return check_iterator();
    if (attr_.attach_prog_fd != 0 || attr_.attach_btf_id != 0) return fail(EINVAL);
    if (type == BPF_PROG_TYPE_CGROUP_SKB && attach > kCgroupEgress) return fail(EINVAL);
    if (type == BPF_PROG_TYPE_SYSCALL && attach != 0) return fail(EINVAL);
    return {};
  }

  /// Of the programs that belong to a function of the kernel there is one: the iterator over the elements of a map.
  Status check_iterator() {
    if (attr_.attach_prog_fd != 0 || attr_.attach_btf_id == 0 || attr_.expected_attach_type != BPF_TRACE_ITER) {
      return fail_because(EINVAL, "of the TRACING programs skep runs iterators only");
    }
    const Result<KernelBtf> kernel = KernelBtf::read();
    if (!kernel) return fail(EINVAL);  // with the sentence of read()
    const uint32_t id = attr_.attach_btf_id;
    if (kernel->kind_of(id) != BtfKind::kFunc)
      return fail_because(EINVAL, "attach_btf_id is no function of this kernel");
    if (kernel->name(id) != "bpf_iter_bpf_map_elem") {
      return fail_because(EINVAL, "of the iterators skep runs those over map elements only");
    }
    image_.facts.attach_btf_id = id;
    return {};
  }

  Status copy_program() {
    image_.instructions.resize(attr_.insn_cnt);
    if (!read_user(image_.instructions.data(), attr_.insns, attr_.insn_cnt * sizeof(bpf_insn))) return fail(EFAULT);
    char license[kMaxLicense] = {};
    if (read_user_string(license, attr_.license, sizeof license - 1) == -1) return fail(EFAULT);
    image_.facts.gpl_compatible = is_gpl(license) ? 1 : 0;
    if (attr_.signature != 0) return fail_because(EINVAL, "skep has no keyring to check a program's signature with");
    return {};
  }

  Status check_device() {
    if (attr_.prog_ifindex != 0) {
      const bool possible = attr_.prog_type == BPF_PROG_TYPE_XDP || attr_.prog_type == BPF_PROG_TYPE_SCHED_CLS;
      return possible ? fail_because(EOPNOTSUPP, "skep has no devices to bind a program to") : fail(EINVAL);
    }
    return program_type_supported(attr_.prog_type) ? Status{} : Status(fail(EINVAL));
  }

  Status check_name() {
    image_.facts.type = attr_.prog_type;
    image_.facts.expected_attach_type = attr_.expected_attach_type;
    image_.facts.flags = attr_.prog_flags;
    image_.facts.created_by_uid = ::getuid();
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    image_.facts.load_time = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
    return copy_object_name(image_.facts.name, attr_.prog_name);
  }

  Status check_program() {
    for (const Step step : {&Loader::add_listed_maps, &Loader::open_btf_of_program, &Loader::check_functions,
                            &Loader::check_infos, &Loader::resolve_loads, &Loader::check_flow, &Loader::check_sleepable,
                            &Loader::prepare, &Loader::check_tail_calls}) {
      if (Status status = (this->*step)(); !status) return status;
    }
    return {};
  }

  /// fd_array with fd_array_cnt: maps that the program is to have even if it does not name them; BTF is accepted.
  Status add_listed_maps() {
    if (attr_.fd_array_cnt >= UINT32_MAX / sizeof(int)) {
      log_.print("fd_array_cnt is too big (%u)\n", attr_.fd_array_cnt);
      return fail(EINVAL);
    }
    for (uint32_t i = 0; i < attr_.fd_array_cnt; ++i) {
      int fd = -1;
      if (!read_user(&fd, attr_.fd_array + uint64_t{i} * sizeof fd, sizeof fd)) return fail(EFAULT);
      const auto object = caller_.descriptors().share(fd);
      if (object && (*object)->kind == ObjectKind::kBtf) continue;
      if (auto index = add_map(fd); !index) return std::unexpected(index.error());
    }
    return {};
  }

  Result<uint32_t> add_map(int fd) {
    const auto object = caller_.descriptors().share(fd, ObjectKind::kMap);
    if (!object) {
      log_.print("fd %d is not pointing to valid bpf_map\n", fd);
      return std::unexpected(object.error());
    }
    for (uint32_t i = 0; i < maps_.size(); ++i) {
      if (maps_[i].object->id == (*object)->id) return i;
    }
    const bool no_locks = attr_.prog_type == BPF_PROG_TYPE_SOCKET_FILTER || is_tracing(attr_.prog_type);
    if (no_locks && (*object)->has_spin_lock) {
      log_.print("%s progs cannot use bpf_spin_lock yet\n", is_tracing(attr_.prog_type) ? "tracing" : "socket filter");
      return fail(EINVAL);
    }
    if (is_tracing(attr_.prog_type) && (*object)->type == BPF_MAP_TYPE_RHASH) {
      log_.print("tracing progs cannot use resizable hash maps yet\n");
      return fail(EINVAL);
    }
    if ((attr_.prog_flags & BPF_F_SLEEPABLE) != 0 && !sleepable_may_use((*object)->type)) {
      log_.print("Sleepable programs can only use array, hash, ringbuf and local storage maps\n");
      return fail(EINVAL);
    }
    if ((*object)->type == BPF_MAP_TYPE_ARENA) {
      if (Status fits = check_arena(**object); !fits) return std::unexpected(fits.error());
    }
    if (maps_.size() == kMaxMaps) {
      log_.print("The total number of maps per program has reached the limit of %u\n", kMaxMaps);
      return fail(E2BIG);
    }
    if ((*object)->type == BPF_MAP_TYPE_INSN_ARRAY) {
      const auto& table = static_cast<const InstructionArrayMap&>(*(*object)->map);
      if (Status status = add_table(table); !status) return std::unexpected(status.error());
    }
    maps_.push_back({fd, *object});
    image_.maps.push_back((*object)->id);
    return static_cast<uint32_t>(maps_.size() - 1);
  }

  /// A program has one arena at most, whose user address is known.
  Status check_arena(const OpenObject& object) {
    const auto is_arena = [](const UsedMap& used) { return used.object->type == BPF_MAP_TYPE_ARENA; };
    if (std::ranges::any_of(maps_, is_arena)) {
      log_.print("Only one arena per program\n");
      return fail(EBUSY);
    }
    if (find_arena_window(object)) return {};
    log_.print("arena's user address must be set via map_extra or mmap()\n");
    return fail(EINVAL);
  }

  /// An array of instructions: frozen, of this program, and no other's.
  Status add_table(const InstructionArrayMap& table) {
    std::vector<uint32_t> named(table.entries());
    if (!table.is_frozen()) {
      log_.print("an array of instructions must be frozen before a program uses it\n");
      return fail(EINVAL);
    }
    caller_.machine().synchronize();  // an update that did not see it frozen yet is over
    for (uint32_t i = 0; i < table.entries(); ++i) named[i] = table.original(i);
    if (Status status = check_jump_table(image_.instructions, named, log_); !status) return status;
    if (table.user() != 0 && caller_.instance().alive(ObjectKind::kProgram, table.user())) {
      log_.print("another program uses the array of instructions\n");
      return fail(EBUSY);
    }
    tables_.push_back(std::move(named));
    return {};
  }

  Status open_btf_of_program() {
    if (attr_.func_info_cnt == 0 && attr_.line_info_cnt == 0) return {};
    const auto object = caller_.descriptors().share(static_cast<int>(attr_.prog_btf_fd), ObjectKind::kBtf);
    if (!object) return std::unexpected(object.error());
    btf_ = *object;
    image_.facts.btf_id = btf_->id;
    return read_records(image_.function_infos, attr_.func_info, attr_.func_info_cnt, attr_.func_info_rec_size,
                        offsetof(bpf_attr, func_info_rec_size), kMaxInstructions, "func");
  }

  /// An array of records whose size the client tells: a longer record is fine as long as what skep does not know is
  /// zero. Never reads more than `limit` + 1 of them: that many are refused anyway.
  template <class T>
  Status read_records(std::vector<T>& records, uint64_t user, uint32_t count, uint32_t record_size, size_t size_offset,
                      uint32_t limit, const char* what) {
    if (count == 0) return {};
    if (record_size < sizeof(T) || record_size > kMaxRecord || record_size % 4 != 0) {
      log_.print("invalid %s info rec size %u\n", what, record_size);
      return fail(EINVAL);
    }
    records.resize(std::min(count, limit + 1));
    for (T& record : records) {
      unsigned char bytes[kMaxRecord];
      if (!read_user(bytes, user, record_size)) return fail(EFAULT);
      if (std::any_of(bytes + sizeof(T), bytes + record_size, [](unsigned char byte) { return byte != 0; })) {
        log_.print("nonzero tailing record in %s info", what);
        const uint32_t known = sizeof(T);
        return fail(caller_.write_back(size_offset, known) ? E2BIG : EFAULT);
      }
      std::memcpy(&record, bytes, sizeof(T));
      user += record_size;
    }
    return {};
  }

  Status check_functions() {
    auto starts = find_functions(image_.instructions, log_);
    if (!starts) return std::unexpected(starts.error());
    functions_ = std::move(*starts);
    const bool gpl = image_.facts.gpl_compatible != 0;
    if (Status calls = check_kernel_calls(image_.instructions, image_.facts.type, gpl, attr_.fd_array != 0, log_);
        !calls)
      return calls;
    return check_jumps(image_.instructions, functions_, log_);
  }

  Status check_infos() {
    if (btf_ == nullptr) return {};
    const Btf& btf = btf_of(*btf_);
    Status status = check_function_infos(image_.function_infos, btf, functions_, log_);
    if (status) {
      status = read_records(image_.line_infos, attr_.line_info, attr_.line_info_cnt, attr_.line_info_rec_size,
                            offsetof(bpf_attr, line_info_rec_size), attr_.insn_cnt, "line");
    }
    return status ? check_line_infos(image_.line_infos, btf, image_.instructions, functions_, log_) : status;
  }

  /// Names of maps become indices into the program's maps; the tags are taken from the instructions without them.
  Status resolve_loads() {
    compute_tags();
    auto& code = image_.instructions;
    for (size_t i = 0; i < code.size(); ++i) {
      if (Status status = check_load_form(code, i, log_); !status) return status;
      if (!is_wide_load(code[i])) continue;
      if (code[i].src_reg != 0 && code[i].src_reg != BPF_PSEUDO_FUNC) {
        if (Status status = resolve_map(code[i], code[i + 1]); !status) return status;
      }
      ++i;
    }
    return {};
  }

  Status resolve_map(bpf_insn& insn, const bpf_insn& second) {
    const bool value = insn.src_reg == BPF_PSEUDO_MAP_VALUE || insn.src_reg == BPF_PSEUDO_MAP_IDX_VALUE;
    const bool indexed = insn.src_reg == BPF_PSEUDO_MAP_IDX || insn.src_reg == BPF_PSEUDO_MAP_IDX_VALUE;
    if (!names_map(insn) || (!value && second.imm != 0)) {
      log_.print("unrecognized bpf_ld_imm64 insn\n");
      return fail(EINVAL);
    }
    int fd = insn.imm;
    if (indexed) {
      if (attr_.fd_array == 0) {
        log_.print("fd_idx without fd_array is invalid\n");
        return fail(EPROTO);
      }
      const uint64_t at = attr_.fd_array + static_cast<uint64_t>(int64_t{insn.imm} * static_cast<int64_t>(sizeof fd));
      if (!read_user(&fd, at, sizeof fd)) return fail(EFAULT);
    }
    const auto index = add_map(fd);
    if (!index) return std::unexpected(index.error());
    if (value) {
      if (Status status = check_value_offset(*maps_[*index].object, static_cast<uint32_t>(second.imm)); !status) {
        return status;
      }
    }
    insn.src_reg = (value ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD) & 0xf;
    insn.imm = static_cast<int32_t>(*index);
    return {};
  }

  Status check_value_offset(const OpenObject& object, uint32_t offset) {
    const MapSpec& spec = object.map->spec();
    if (spec.type == BPF_MAP_TYPE_INSN_ARRAY && offset < kMaxValueOffset) {
      if (offset % sizeof(uint64_t) == 0 && offset / sizeof(uint64_t) < spec.max_entries) return {};
      log_.print("invalid access to map value pointer, value_size=%u off=%u\n", spec.value_size, offset);
      return fail(EACCES);
    }
    if (offset >= kMaxValueOffset) {
      log_.print("direct value offset of %u is not allowed\n", offset);
      return fail(EINVAL);
    }
    if (spec.type == BPF_MAP_TYPE_ARENA) {
      const auto window = static_cast<const ArenaMap&>(*object.map).window();
      if (offset <= window.end() - window.start) return {};
      log_.print("invalid access to map value pointer, value_size=%u off=%u\n", spec.value_size, offset);
      return fail(ERANGE);
    }
    if (spec.type != BPF_MAP_TYPE_ARRAY) {
      log_.print("no direct value access support for this map type\n");
      return fail(EINVAL);
    }
    const int error = spec.max_entries != 1 ? kEnotsupp : offset >= spec.value_size ? EINVAL : 0;
    if (error == 0) return {};
    log_.print("invalid access to map value pointer, value_size=%u off=%u\n", spec.value_size, offset);
    return fail(error);
  }

  void compute_tags() {
    std::vector<bpf_insn> plain = image_.instructions;
    for (size_t i = 0; i < plain.size(); ++i) {
      const bool named =
          is_wide_load(plain[i]) && (plain[i].src_reg == BPF_PSEUDO_MAP_FD || plain[i].src_reg == BPF_PSEUDO_MAP_VALUE);
      if (!named) continue;
      plain[i].imm = 0;
      if (i + 1 < plain.size() && plain[i + 1].code == 0) plain[++i].imm = 0;
    }
    const std::span<const bpf_insn> all(plain);
    const auto tag_of = [](std::span<const bpf_insn> code, uint8_t(&tag)[BPF_TAG_SIZE]) {
      const auto digest = sha256(std::as_bytes(code));
      std::copy_n(digest.begin(), sizeof tag, tag);
    };
    tag_of(all, image_.facts.tag);
    for (size_t f = 0; f < functions_.size(); ++f) {
      const size_t end = f + 1 < functions_.size() ? functions_[f + 1] : all.size();
      ProgramFunction& function = image_.functions.emplace_back();
      function.start = functions_[f];
      tag_of(all.subspan(functions_[f], end - functions_[f]), function.tag);
    }
  }

  Status check_flow() {
    Status status = check_control_flow(image_.instructions, functions_, tables_, log_);
    return status ? check_operands(image_.instructions, log_) : status;
  }

  Status check_sleepable() {
    const bool sleepable = (attr_.prog_flags & BPF_F_SLEEPABLE) != 0;
    if (attr_.prog_type == BPF_PROG_TYPE_SYSCALL && !sleepable) {
      log_.print("Syscall programs can only be sleepable\n");
      return fail(EINVAL);
    }
    if (sleepable && attr_.prog_type != BPF_PROG_TYPE_SYSCALL && attr_.prog_type != BPF_PROG_TYPE_KPROBE &&
        attr_.prog_type != BPF_PROG_TYPE_TRACING) {
      log_.print("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n");
      return fail(EINVAL);
    }
    return sleepable ? Status{} : check_sleeping_calls(image_.instructions, functions_, log_);
  }

  Status prepare() {
    std::vector<std::shared_ptr<Map>> maps;
    for (const UsedMap& used : maps_) maps.push_back(used.object->map);
    const auto program = Program::prepare(describe(image_, std::move(maps)));
    image_.facts.verified_instructions = attr_.insn_cnt;
    if (program) return {};
    log_.print("%s\n", last_error_sentence());
    return fail(program.error() == Errno{EPERM} ? EINVAL : to_int(program.error()));
  }

  /// A program that has a program array fits into it: what it jumps to runs in its place.
  Status check_tail_calls() {
    for (const UsedMap& used : maps_) {
      if (used.object->type == BPF_MAP_TYPE_PROG_ARRAY && !fits_owner(used.object->map->header(), image_))
        return fail(EINVAL);
    }
    return {};
  }

  Answer publish() {
    auto file = caller_.instance().make_file(ObjectKind::kProgram);
    if (!file) return std::unexpected(file.error());
    const int fd = file->get();
    if (Status status = write_program_file(fd, image_); !status) return std::unexpected(status.error());
    Status held{};
    const auto id = caller_.instance().publish(ObjectKind::kProgram, fd, [&](uint32_t given) {
      store_file_id(fd, given);
      held = hold_everything(given);
    });
    if (!id) return std::unexpected(id.error());
    if (held) held = claim_tables(*id);
    if (!held) {
      *file = FileDescriptor();
      caller_.instance().collect(ObjectKind::kProgram, *id);
      return std::unexpected(held.error());
    }
    return caller_.descriptors().install(std::move(*file));
  }

  /// From here on the program keeps its maps and its BTF alive. They are alive now: the client has descriptors of them.
  Status hold_everything(uint32_t id) {
    for (const UsedMap& used : maps_) {
      Status held = caller_.instance().hold(ObjectKind::kProgram, id, ObjectKind::kMap, used.object->id, used.fd);
      if (!held) return held;
    }
    if (btf_ == nullptr) return {};
    return caller_.instance().hold(ObjectKind::kProgram, id, ObjectKind::kBtf, btf_->id,
                                   static_cast<int>(attr_.prog_btf_fd));
  }

  /// The program has its name, so that others who find it in a table see that it lives.
  Status claim_tables(uint32_t program) {
    for (const UsedMap& used : maps_) {
      if (used.object->type != BPF_MAP_TYPE_INSN_ARRAY) continue;
      // Writable, whatever the client's descriptor is, unless the file is not.
      const auto map = caller_.descriptors().map_by_id(used.object->id);
      if (!map) return std::unexpected(map.error());
      if (!(*map)->segments().control.writable()) return fail(EACCES);
      auto& table = static_cast<InstructionArrayMap&>(**map);
      const uint32_t former = table.user();
      if (former != 0 && caller_.instance().alive(ObjectKind::kProgram, former)) return fail(EBUSY);
      if (Status claimed = table.claim(program, former); !claimed) return claimed;
    }
    return {};
  }

  struct UsedMap {
    int fd;
    std::shared_ptr<const OpenObject> object;
  };

  Caller& caller_;
  const bpf_attr& attr_;
  const LogBuffer buffer_;
  VerifierLog log_;
  ProgramImage image_;
  std::vector<UsedMap> maps_;
  std::vector<uint32_t> functions_;
  std::vector<std::vector<uint32_t>> tables_;  // the instructions that its arrays of them name
  std::shared_ptr<const OpenObject> btf_;
};

}  // namespace

Answer prog_load(Caller& caller) { return Loader(caller).load(); }

}  // namespace skep
