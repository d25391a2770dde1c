// SPDX-License-Identifier: Apache-2.0
// Runs an iterator's program over its map.
#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "prog/decode.h"
#include "prog/sequence_text.h"
#include "syscall/kernel_map.h"
#include "syscall/link_object.h"
#include "syscall/map_access.h"
#include "syscall/prog_commands.h"
#include "syscall/prog_commands_run.h"
#include "syscall/text_file.h"

namespace skep {
namespace {

/// struct bpf_iter_meta and struct bpf_iter__bpf_map_elem, as programs see them.
struct Meta {
  uint64_t sequence;
  uint64_t session;
  uint64_t number;
};
struct Context {
  uint64_t meta;
  uint64_t map;
  uint64_t key;
  uint64_t value;
};

constexpr size_t kPiece = size_t{256} << 10;  // of text, bytes, that go to the file together
std::atomic<uint64_t> last_session{0};

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// One walk of one program over one map. What the program writes goes to a file as a reader of unlimited patience would
/// get it: an element that the program asks for again is shown again, as long as something was written since the last
/// time that it asked.
class Walk {
 public:
  Walk(Process& process, const std::shared_ptr<Map>& map, const Program& program, TextFile& file)
      : map_(*map),
        program_(program),
        file_(file),
        binding_(bind_map(map)),
        shown_map_(kernel_map(*map)),
        trace_(*process.instance),
        environment_{.sequence = &text_,
                     .trace = &trace_,
                     .references = process.references.get(),
                     .timers = process.timers.get()} {
    meta_.sequence = address(&text_);
    meta_.session = last_session.fetch_add(1, std::memory_order_relaxed);
    if (is_per_cpu(map_.spec().type)) values_.resize(map_.user_value_size());
  }

  Status run() {
    const Lease lease(map_.machine(), current_cpu(map_.machine()));
    const auto calls = map_.for_each(lease, [&](const void* key, void* value) {
      return visit(lease, key, value) ? Visit::kContinue : Visit::kStop;
    });
    if (!calls) return std::unexpected(calls.error());
    if (!status_) return status_;
    if (meta_.number > 0) --meta_.number;  // the end has the number of the last element
    show(lease, nullptr, {});
    return status_ ? file_.append(text_.text()) : status_;
  }

  /// How often the program was run.
  [[nodiscard]] uint64_t runs() const { return runs_; }

 private:
  /// False: the walk is over.
  bool visit(const Lease& lease, const void* key, void* value) {
    ContextMemory shown{.data = static_cast<std::byte*>(value),
                        .size = map_.spec().value_size,
                        .writable = binding_.writable,
                        .value_of = &binding_};
    if (!values_.empty()) {
      // A private copy of every CPU's value. One that was erased a moment ago is not shown.
      if (!map_.lookup(key, values_.data(), 0)) return true;
      shown = {.data = values_.data(), .size = values_.size(), .writable = true};
    }
    while (!show(lease, key, shown)) {
      if (!status_) return false;
      if (!written_) {
        status_ = fail_because(EAGAIN, "the iterator's program asks for the same element again and again");
        return false;
      }
      written_ = false;
    }
    ++meta_.number;
    if (text_.text().size() < kPiece) return true;
    status_ = file_.append(text_.text());
    text_.clear();
    return static_cast<bool>(status_);
  }

  /// One run. False: it failed (status_), or the program wants to see the element again.
  bool show(const Lease& lease, const void* key, const ContextMemory& value) {
    Context context{.meta = address(&meta_), .map = map_address(), .key = address(key), .value = address(value.data)};
    const ContextMemory memory[] = {
        {.data = reinterpret_cast<std::byte*>(&meta_), .size = sizeof meta_},
        {.data = shown_map_.data(), .size = shown_map_.size()},
        {.data = static_cast<std::byte*>(const_cast<void*>(key)), .size = map_.spec().key_size},
        value,
    };
    BytesContext bytes{.data = reinterpret_cast<std::byte*>(&context), .size = sizeof context};
    bytes.memory = std::span(memory).first(key == nullptr ? 2 : 4);
    text_.begin_element();
    const size_t before = text_.text().size();
    ++runs_;
    const Result<uint64_t> verdict = runner_.run(program_, lease, &bytes, environment_);
    if (!verdict) {
      status_ = std::unexpected(verdict.error());
    } else if (text_.overflowed()) {
      status_ = fail_because(E2BIG, "the iterator's program writes 32 KiB or more for one element");
    } else if (key == nullptr || *verdict == 0) {
      written_ = written_ || text_.text().size() != before;
      return true;
    }
    text_.drop_element();
    return false;
  }

  [[nodiscard]] uint64_t map_address() const { return shown_map_.empty() ? 0 : address(shown_map_.data()); }

  Map& map_;
  const Program& program_;
  TextFile& file_;
  const MapBinding binding_;
  std::vector<std::byte> shown_map_;
  SequenceText text_;
  TraceFile trace_;
  const RunEnvironment environment_;
  Meta meta_{};
  std::vector<std::byte> values_;
  Runner runner_;
  uint64_t runs_ = 0;
  bool written_ = false;  // since the program last asked for an element again
  Status status_{};
};

/// The program of the link, which somebody may replace meanwhile.
Result<std::shared_ptr<ObjectFace>> open_program_of(Process& process, const LinkFile& link) {
  for (;;) {
    const uint32_t id = link.program.load(std::memory_order_acquire);  // pairs with the exchange in link_update()
    const auto file = process.instance->open_by_id(ObjectKind::kProgram, id, O_RDONLY);
    if (file) return open_program(process, file->get(), {});
    if (link.program.load(std::memory_order_acquire) == id) return std::unexpected(file.error());
  }
}

}  // namespace

Result<FileDescriptor> iterate(Process& process, const LinkFile& link) {
  const auto map = process.descriptors.map_by_id(link.map);
  if (!map) return std::unexpected(map.error());
  const auto face = open_program_of(process, link);
  if (!face) return std::unexpected(face.error());
  const auto& program_face = static_cast<const ProgramFace&>(**face);
  const auto program = program_face.ready(process.descriptors);
  if (!program) return std::unexpected(program.error());
  auto file = TextFile::make("bpf_iter");
  if (!file) return std::unexpected(file.error());
  process.machine.run_deferred();
  const auto walk = std::make_unique<Walk>(process, *map, **program, *file);
  const auto began = std::chrono::steady_clock::now();
  const Status status = walk->run();
  if (program_face.counts() && process.instance->stats_enabled()) {
    const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - began;
    program_face.counters().runs.fetch_add(walk->runs(), std::memory_order_relaxed);
    program_face.counters().nanoseconds.fetch_add(static_cast<uint64_t>(spent.count()), std::memory_order_relaxed);
  }
  if (!status) return std::unexpected(status.error());
  return file->finish();
}

Result<FileDescriptor> iterate_link(Process& process, int fd) {
  const Result<FileHeader> header = process.instance->identify(fd);
  if (!header || header->kind != ObjectKind::kLink) return fail(EIO);
  const auto face = open_link(process, fd, *header);
  if (!face) return fail(EIO);
  return iterate(process, static_cast<const LinkFace&>(**face).link());
}

}  // namespace skep
