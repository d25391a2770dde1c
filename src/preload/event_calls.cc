// SPDX-License-Identifier: Apache-2.0
// ioctl(2), of which only that on perf events is skep's.

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdarg>

#include "preload/export.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "syscall/perf_events.h"

using namespace skep::preload;

namespace {

/// Whether it is one of linux/perf_event.h's requests.
bool is_event_request(unsigned long request) { return _IOC_TYPE(request) == '$'; }

}  // namespace

SKEP_TAKES int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  request = static_cast<uint32_t>(request);  // as the kernel takes it
  if (!is_event_request(request) || fd < 0 || !serving()) return real::ioctl(fd, request, argument);
  const int saved_errno = errno;
  const auto object = start()->descriptors.share(fd);
  errno = saved_errno;
  if (!object || (*object)->kind != skep::ObjectKind::kPerfEvent) return real::ioctl(fd, request, argument);
  const skep::Answer answer = skep::perf_event_ioctl(**object, request, reinterpret_cast<uint64_t>(argument));
  if (answer) return *answer;
  errno = skep::to_int(answer.error());
  return -1;
}
