// SPDX-License-Identifier: Apache-2.0
// skep's own layers are part of this library, but their calls are no program's: the linker turns each reference of
// theirs to an interposed function into one to its __wrap_ name (--wrap), which is libc's function and nothing else. So
// the layers see the real files, and closing a descriptor of their own is no news to the descriptor table.
//
// A function that is missing here shows as an undefined __wrap_ symbol when the library is linked.

#include "preload/kernel_call.h"
#include "preload/real.h"

using namespace skep::preload;

#define SKEP_OWN extern "C" __attribute__((visibility("hidden")))

SKEP_OWN int __wrap_access(const char* path, int mode) { return real::access(path, mode); }
SKEP_OWN int __wrap_close(int fd) { return real::close(fd); }
SKEP_OWN int __wrap_faccessat(int directory, const char* path, int mode, int flags) {
  return real::faccessat(directory, path, mode, flags);
}
SKEP_OWN int __wrap_fclose(FILE* stream) { return real::fclose(stream); }
SKEP_OWN FILE* __wrap_fopen(const char* path, const char* mode) { return real::fopen(path, mode); }
SKEP_OWN FILE* __wrap_fopen64(const char* path, const char* mode) { return real::fopen(path, mode); }
SKEP_OWN int __wrap_fstatat(int directory, const char* path, struct stat* status, int flags) {
  return real::fstatat(directory, path, status, flags);
}
SKEP_OWN int __wrap_fstatfs(int fd, struct statfs* status) { return real::fstatfs(fd, status); }
SKEP_OWN int __wrap_ioctl(int fd, unsigned long request, void* argument) { return real::ioctl(fd, request, argument); }
SKEP_OWN int __wrap_link(const char* from, const char* to) { return real::link(from, to); }
SKEP_OWN int __wrap_linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  return real::linkat(from_directory, from, to_directory, to, flags);
}
SKEP_OWN int __wrap_lstat(const char* path, struct stat* status) { return real::lstat(path, status); }
SKEP_OWN int __wrap_mkdir(const char* path, mode_t mode) { return real::mkdir(path, mode); }
SKEP_OWN int __wrap_mkdirat(int directory, const char* path, mode_t mode) {
  return real::mkdirat(directory, path, mode);
}
SKEP_OWN void* __wrap_mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  return real::mmap(address, length, protection, flags, fd, offset);
}
SKEP_OWN int __wrap_mprotect(void* address, size_t length, int protection) {
  return real::mprotect(address, length, protection);
}
SKEP_OWN int __wrap_munmap(void* address, size_t length) { return real::munmap(address, length); }
SKEP_OWN int __wrap_open(const char* path, int flags, mode_t mode) { return real::open(path, flags, mode); }
SKEP_OWN int __wrap_openat(int directory, const char* path, int flags, mode_t mode) {
  return real::openat(directory, path, flags, mode);
}
SKEP_OWN DIR* __wrap_opendir(const char* path) { return real::opendir(path); }
SKEP_OWN int __wrap_poll(struct pollfd* fds, nfds_t count, int timeout) { return real::poll(fds, count, timeout); }
SKEP_OWN ssize_t __wrap_readlink(const char* path, char* buffer, size_t size) {
  return real::readlink(path, buffer, size);
}
SKEP_OWN ssize_t __wrap_readlinkat(int directory, const char* path, char* buffer, size_t size) {
  return real::readlinkat(directory, path, buffer, size);
}
SKEP_OWN char* __wrap_realpath(const char* path, char* resolved) { return real::realpath(path, resolved); }
SKEP_OWN int __wrap_rename(const char* from, const char* to) { return real::rename(from, to); }
SKEP_OWN int __wrap_renameat(int from_directory, const char* from, int to_directory, const char* to) {
  return real::renameat(from_directory, from, to_directory, to);
}
SKEP_OWN int __wrap_rmdir(const char* path) { return real::rmdir(path); }
SKEP_OWN int __wrap_sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  return real::sigaction(signal, action, old);
}
SKEP_OWN int __wrap_stat(const char* path, struct stat* status) { return real::stat(path, status); }
SKEP_OWN int __wrap_statfs(const char* path, struct statfs* status) { return real::statfs(path, status); }
SKEP_OWN int __wrap_statvfs(const char* path, struct statvfs* status) { return real::statvfs(path, status); }
SKEP_OWN int __wrap_statx(int directory, const char* path, int flags, unsigned mask, struct statx* status) {
  return real::statx(directory, path, flags, mask, status);
}
SKEP_OWN long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f) {
  return kernel_call(number, a, b, c, d, e, f);
}
SKEP_OWN int __wrap_unlink(const char* path) { return real::unlink(path); }
SKEP_OWN int __wrap_unlinkat(int directory, const char* path, int flags) {
  return real::unlinkat(directory, path, flags);
}
