// SPDX-License-Identifier: Apache-2.0
// How an arena can be mapped into memory: one line per map, one word (ok, or the errno) per thing that is tried.

#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kArena = 33, kMmapable = 1 << 10, kSegvOnFault = 1 << 17, kPage = 4096 };
static const int kReadWrite = PROT_READ | PROT_WRITE;

static void word(const char* name, int failed) {
  printf("  %s ", name);
  if (failed)
    printf("%d", errno);
  else
    printf("ok");
}

/// Debian's libbpf knows no arenas, so the attributes are written here.
static int make(uint32_t pages, uint32_t flags, uint64_t address) {
  struct {
    uint32_t type, key, value, entries, flags, inner, node;
    char name[16];
    uint32_t ifindex, btf[4];
    uint64_t extra;
  } attr = {.type = kArena, .entries = pages, .flags = kMmapable | flags, .name = "arena", .extra = address};
  return (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
}

static char* map_at(int map, void* address, int pages, int protection, int flags) {
  return mmap(address, (size_t)pages * kPage, protection, flags, map, 0);
}

/// Tries a mapping and takes it away again.
static void attempt(const char* name, int map, void* address, int pages, int protection, int flags, off_t offset) {
  char* memory = mmap(address, (size_t)pages * kPage, protection, flags, map, offset);
  word(name, memory == MAP_FAILED);
  if (memory == MAP_FAILED) return;
  if (address != NULL && memory != address) printf("(elsewhere)");
  munmap(memory, (size_t)pages * kPage);
}

static sigjmp_buf after_fault;
static void on_fault(int signal) { siglongjmp(after_fault, signal); }

/// What a touch of the page does: its first byte, or the name of the signal.
static void touch(const char* name, volatile char* page) {
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  const int caught = sigsetjmp(after_fault, 1);
  if (caught == 0)
    printf("  %s %d", name, *page);
  else
    printf("  %s %s", name, caught == SIGSEGV ? "SIGSEGV" : "SIGBUS");
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
}

static void try_fresh(void) {
  printf("fresh:");
  int map = make(4, 0, 0);
  attempt("private", map, NULL, 4, kReadWrite, MAP_PRIVATE, 0);
  attempt("behind", map, NULL, 3, kReadWrite, MAP_SHARED, kPage);
  attempt("exec", map, NULL, 4, kReadWrite | PROT_EXEC, MAP_SHARED, 0);
  attempt("huge", map, NULL, (1 << 20) + 1, kReadWrite, MAP_SHARED, 0);
  attempt("longer", map, NULL, 5, kReadWrite, MAP_SHARED, 0);
  close(map);
  map = make(4, 0, 0);
  attempt("shorter", map, NULL, 2, kReadWrite, MAP_SHARED, 0);
  close(map);
  map = make(4, 0, 0);
  attempt("read", map, NULL, 4, PROT_READ, MAP_SHARED, 0);
  close(map);
  printf("\n");
}

static void try_second(void) {
  printf("second:");
  const int map = make(4, 0, 0);
  char* first = map_at(map, NULL, 4, kReadWrite, MAP_SHARED);
  word("first", first == MAP_FAILED);
  attempt("anywhere", map, NULL, 4, kReadWrite, MAP_SHARED, 0);
  attempt("shorter", map, first, 3, kReadWrite, MAP_SHARED, 0);
  attempt("longer", map, first, 5, kReadWrite, MAP_SHARED, 0);
  attempt("occupied", map, first, 4, kReadWrite, MAP_SHARED, 0);
  attempt("elsewhere", map, first + (1 << 24), 4, kReadWrite, MAP_SHARED | MAP_FIXED, 0);
  char* again = map_at(map, first, 4, kReadWrite, MAP_SHARED | MAP_FIXED);
  word("over it", again != first);
  word("all away", munmap(first, 4 * kPage) != 0);
  attempt("once more", map, first, 4, kReadWrite, MAP_SHARED, 0);
  close(map);
  printf("\n");
}

static void try_changes(void) {
  printf("changes:");
  const int map = make(4, 0, 0);
  char* memory = map_at(map, NULL, 4, kReadWrite, MAP_SHARED);
  word("unmap some", munmap(memory, kPage) != 0);
  word("unmap the end", munmap(memory + 3 * kPage, kPage) != 0);
  word("grow", mremap(memory, 4 * kPage, 5 * kPage, MREMAP_MAYMOVE) == MAP_FAILED);
  word("shrink", mremap(memory, 4 * kPage, 3 * kPage, 0) == MAP_FAILED);
  word("exec", mprotect(memory, 4 * kPage, PROT_READ | PROT_EXEC) != 0);
  word("protect some", mprotect(memory, kPage, PROT_READ) != 0);
  word("protect", mprotect(memory, 4 * kPage, PROT_READ) != 0);
  word("open", mprotect(memory, 4 * kPage, kReadWrite) != 0);
  memory[0] = 7;
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    touch("child", memory);
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  printf("  parent %d", memory[0]);
  word("freeze", bpf_map_freeze(map) != 0);
  word("unmap", munmap(memory, 4 * kPage) != 0);
  close(map);
  printf("\n");
}

static void try_frozen(void) {
  printf("frozen:");
  const int map = make(4, 0, 1ULL << 44);
  word("freeze", bpf_map_freeze(map) != 0);
  attempt("write", map, (char*)(1ULL << 44), 4, kReadWrite, MAP_SHARED, 0);
  attempt("read", map, (char*)(1ULL << 44), 4, PROT_READ, MAP_SHARED, 0);
  close(map);
  printf("\n");
}

static void try_given(void) {
  printf("given:");
  char* const base = (char*)(1ULL << 44);
  const int map = make(4, 0, 1ULL << 44);
  attempt("anywhere", map, NULL, 4, kReadWrite, MAP_SHARED, 0);
  attempt("elsewhere", map, base + kPage, 4, kReadWrite, MAP_SHARED, 0);
  attempt("shorter", map, base, 3, kReadWrite, MAP_SHARED, 0);
  attempt("longer", map, base, 5, kReadWrite, MAP_SHARED, 0);
  attempt("there", map, base, 4, kReadWrite, MAP_SHARED, 0);
  attempt("fixed", map, base, 4, kReadWrite, MAP_SHARED | MAP_FIXED, 0);
  close(map);
  printf("\n");
}

static void try_boundary(void) {
  printf("boundary:");
  char* const near_end = (char*)(0x3001ULL << 32) - 2 * kPage;
  int map = make(4, 0, 0);
  char* memory = map_at(map, near_end, 4, kReadWrite, MAP_SHARED);
  printf("  hint +%ld", (long)(memory - near_end));
  munmap(memory, 4 * kPage);
  close(map);
  map = make(4, 0, 0);
  memory = map_at(map, near_end, 4, kReadWrite, MAP_SHARED | MAP_FIXED);
  if (memory == MAP_FAILED)
    word("fixed", 1);
  else
    printf("  fixed +%ld", (long)(memory - near_end));
  munmap(memory, 4 * kPage);
  close(map);
  map = make(1 << 20, 0, 0);
  memory = map_at(map, NULL, 1 << 20, kReadWrite, MAP_SHARED);
  if (memory == MAP_FAILED)
    word("whole", 1);
  else
    printf("  whole %lx", (unsigned long)memory & 0xffffffff);
  munmap(memory, 1ULL << 32);
  close(map);
  printf("\n");
}

static void try_touch(void) {
  printf("touch:");
  int map = make(4, 0, 0);
  char* memory = map_at(map, NULL, 4, kReadWrite, MAP_SHARED);
  touch("page", memory + kPage);
  munmap(memory, 4 * kPage);
  close(map);
  map = make(4, kSegvOnFault, 0);
  memory = map_at(map, NULL, 4, kReadWrite, MAP_SHARED);
  touch("strict", memory + kPage);
  munmap(memory, 4 * kPage);
  close(map);
  printf("\n");
}

/// With an argument: pins an arena there. Without: what can be done with arenas.
int main(int count, char** arguments) {
  if (count > 1) return bpf_obj_pin(make(4, 0, 1ULL << 44), arguments[1]) != 0;
  try_fresh();
  try_second();
  try_changes();
  try_frozen();
  try_given();
  try_boundary();
  try_touch();
  return 0;
}
