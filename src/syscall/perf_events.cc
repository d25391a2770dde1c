// SPDX-License-Identifier: Apache-2.0
#include "syscall/perf_events.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <optional>

#include "syscall/commands.h"

namespace skep {
namespace {

/// The byte of an event's file that every mapping of its ring holds a read lock on, far behind the content.
constexpr off_t kMappedByte = off_t{1} << 60;
constexpr uint64_t kKnownFlags = PERF_FLAG_FD_CLOEXEC | PERF_FLAG_FD_NO_GROUP | PERF_FLAG_FD_OUTPUT;

/// The client's attributes, as far as it gave them; none: the kernel has something to say about them.
std::optional<perf_event_attr> read_attr(uint64_t user) {
  perf_event_attr attr{};
  uint32_t size = 0;
  if (!read_user(&size, user + offsetof(perf_event_attr, size), sizeof size)) return std::nullopt;
  if (size == 0) size = PERF_ATTR_SIZE_VER0;
  if (size < PERF_ATTR_SIZE_VER0 || size > kPageSize) return std::nullopt;
  const uint32_t known = std::min<uint32_t>(size, sizeof attr);
  if (!read_user(&attr, user, known) || user_zeros(user + known, size - known) != UserZeros::kYes) return std::nullopt;
  return attr;
}

struct flock mapping_lock(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kMappedByte;
  lock.l_len = 1;
  return lock;
}

bool is_mapped(int fd) {
  struct flock lock = mapping_lock(F_WRLCK);
  return ::fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

Status hold_mapping(int fd) {
  struct flock lock = mapping_lock(F_RDLCK);
  if (::fcntl(fd, F_OFD_SETLK, &lock) != 0) return fail(errno);
  return {};
}

}  // namespace

bool is_perf_output_event(uint64_t user, int cpu, uint64_t flags) {
  if (cpu < 0 || (flags & ~kKnownFlags) != 0) return false;
  const auto attr = read_attr(user);
  return attr && attr->type == PERF_TYPE_SOFTWARE && attr->config == PERF_COUNT_SW_BPF_OUTPUT && attr->inherit == 0 &&
         attr->write_backward == 0 && attr->freq == 0 && attr->read_format == 0 && attr->branch_sample_type == 0 &&
         attr->aux_watermark == 0 && attr->sigtrap == 0 && PerfEvent::can_sample(attr->sample_type);
}

Answer perf_event_open(Process& process, uint64_t user, int cpu, uint64_t flags) {
  const auto attr = read_attr(user);
  if (!attr) return fail(EFAULT);
  if (static_cast<uint32_t>(cpu) >= process.machine.cpus()) return fail(EINVAL);
  const PerfEventSpec spec = {.sample_type = attr->sample_type,
                              .cpu = static_cast<uint32_t>(cpu),
                              .wakeup = attr->wakeup_events,
                              .watermark = attr->watermark != 0,
                              .sample_id_all = attr->sample_id_all != 0,
                              .enabled = attr->disabled == 0};
  Result<FileDescriptor> fd = process.instance->make_file(ObjectKind::kPerfEvent);
  if (!fd) return std::unexpected(fd.error());
  if (const Status made = PerfEvent::initialise(fd->get(), spec); !made) return std::unexpected(made.error());
  const Result<uint32_t> id = process.instance->publish(ObjectKind::kPerfEvent, fd->get(),
                                                        [&](uint32_t given) { PerfEvent::store_id(fd->get(), given); });
  if (!id) return std::unexpected(id.error());
  if ((flags & PERF_FLAG_FD_CLOEXEC) == 0) ::fcntl(fd->get(), F_SETFD, 0);
  return process.descriptors.install(*std::move(fd));
}

Result<std::shared_ptr<ObjectFace>> open_perf_event(Process& process, int fd, const FileHeader&) {
  const Result<FileDescriptor> own = Instance::reopen(fd, O_RDWR);
  if (!own) return std::unexpected(own.error());
  auto event = PerfEvent::open(own->get(), process.machine);
  if (!event) return std::unexpected(event.error());
  return std::make_shared<PerfEventFace>(*std::move(event));
}

Answer perf_event_ioctl(const OpenObject& object, uint64_t request, uint64_t argument) {
  PerfEvent& event = event_of(object);
  switch (request) {
    case PERF_EVENT_IOC_ENABLE:
    case PERF_EVENT_IOC_REFRESH:
      event.enable(true);
      return 0;
    case PERF_EVENT_IOC_DISABLE:
      event.enable(false);
      return 0;
    case PERF_EVENT_IOC_RESET:  // the count is zero
      return 0;
    case PERF_EVENT_IOC_PERIOD: {  // output does not heed it
      uint64_t period = 0;
      if (!read_user(&period, argument, sizeof period)) return fail(EFAULT);
      return period == 0 ? Answer(fail(EINVAL)) : Answer(0);
    }
    case PERF_EVENT_IOC_PAUSE_OUTPUT:
      event.pause(argument != 0);
      return 0;
    case PERF_EVENT_IOC_ID: {
      const uint64_t id = event.id();
      return write_user(argument, &id, sizeof id) ? Answer(0) : Answer(fail(EFAULT));
    }
    case PERF_EVENT_IOC_SET_OUTPUT:
    case PERF_EVENT_IOC_SET_BPF:
    case PERF_EVENT_IOC_SET_FILTER:
    case PERF_EVENT_IOC_QUERY_BPF:
      return fail(EINVAL);
    default:
      return fail(ENOTTY);
  }
}

Result<FileDescriptor> perf_event_prepare_mapping(Process& process, const OpenObject& object, uint64_t length,
                                                  bool shared, bool write, uint64_t offset) {
  const uint64_t pages = round_up(length, kPageSize) / kPageSize;
  if (!shared || offset != 0 || pages == 0 || (pages > 1 && !std::has_single_bit(pages - 1))) return fail(EINVAL);
  Result<FileDescriptor> fd = process.instance->open_by_id(ObjectKind::kPerfEvent, object.id, O_RDWR);
  if (!fd) return fd;
  const Status ready = event_of(object).map_ring((pages - 1) * kPageSize, !write, [&] { return is_mapped(fd->get()); },
                                                 [&] { return hold_mapping(fd->get()); });
  if (!ready) return std::unexpected(ready.error());
  return fd;
}

}  // namespace skep
