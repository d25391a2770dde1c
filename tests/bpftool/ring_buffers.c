// SPDX-License-Identifier: Apache-2.0
// ring_buffers WHAT OBJECT: libbpf's ring_buffer and user_ring_buffer against programs that this process and others
// run. Everything it prints is the same on the kernel and under skep.
//   random     a fixed sequence of random operations: what each gave, and all that the consumer saw
//   processes  three producers, each killed once, one consumer that sleeps in epoll: every record once and in order
//   requests   a user_ring_buffer that waits for room while another process drains it
//   rules      positions, poll(2), mmap(2), elements, hostile producers

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_buffers.h"

static int produce_fd, drain_fd, ring_fd, requests_fd;

static int run(int program, struct call* call) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = call, .ctx_size_in = sizeof(*call));
  if (bpf_prog_test_run_opts(program, &options) != 0) {
    perror("test_run");
    exit(1);
  }
  return (int)options.retval;
}

static int produce(__u64 operation, __u64 size, __u64 flags, __u64 value) {
  struct call call = {operation, size, flags, value};
  return run(produce_fd, &call);
}

static __u64 digest = 14695981039346656037u;
static void add(const void* data, size_t size) {
  for (size_t i = 0; i < size; i++) digest = (digest ^ ((const unsigned char*)data)[i]) * 1099511628211u;
}

static int first_word(void* context, void* data, size_t size) {
  __u64 word = 0;
  (void)context;
  if (size >= 8) memcpy(&word, data, 8);  // of shorter ones a program may have written nothing
  add(&word, 8);
  add(&size, sizeof(size));
  return 0;
}

static void random_operations(void) {
  static const __u64 sizes[] = {8, 100, 1000, 4080, 4088};
  struct ring_buffer* consumer = ring_buffer__new(ring_fd, first_word, NULL, NULL);
  unsigned random = 12345, counts[2] = {0, 0}, records = 0;

  for (int step = 0; consumer != NULL && step < 20000; step++) {
    random = random * 1103515245 + 12345;
    unsigned action = random >> 16 & 15, more = random >> 20;
    int result;
    if (action < 5) {
      result = produce(OP_OUTPUT, more % 65, more % 9 == 0 ? more % 8 : 0, step);
    } else if (action < 9) {
      result = produce(action < 8 ? OP_SUBMIT : OP_DISCARD, sizes[more % 64 == 0 ? more / 64 % 5 : more % 2], more % 4,
                       step);
    } else if (action < 12) {
      result = produce(OP_DYNPTR, more % 200, more % 8, step);
    } else if (action < 14) {
      result = produce(OP_QUERY, 0, more % 6 == 4 ? 5 : more % 6, 0);
    } else {
      result = ring_buffer__consume(consumer);
      records += result > 0 ? result : 0;
    }
    counts[result < 0]++;
    add(&result, sizeof(result));
  }
  printf("%u worked, %u failed, %u records, digest %llx\n", counts[0], counts[1], records, digest);
}

static __u64 next_value[3];
static unsigned seen, wrong;
static int in_order(void* context, void* data, size_t size) {
  __u64 value;
  (void)context;
  memcpy(&value, data, 8);
  if (size < 8 || value % 4 > 2 || value / 4 < next_value[value % 4]) wrong++;
  next_value[value % 4] = value / 4 + 1;
  seen++;
  return 0;
}

// Each producer is killed somewhere in its first life; in its second it finishes. What it had submitted is in `done`,
// which can lag behind by the one record during which it died.
static void processes(void) {
  enum { kRecords = 4000, kProducers = 3 };
  volatile __u64* done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct ring_buffer* consumer = ring_buffer__new(ring_fd, in_order, NULL, NULL);
  pid_t children[kProducers];
  unsigned ended = 0, lives[kProducers] = {0}, idle = 0;

  if (consumer == NULL) return;
  for (int i = 0; i < kProducers; i++) children[i] = 0;
  while (ended < kProducers || seen < kProducers * kRecords) {
    for (unsigned i = 0; i < kProducers; i++) {
      int status;
      if (lives[i] == 3) continue;
      if (lives[i] == 1 && done[i] > 1000 + 700 * i) kill(children[i], SIGKILL);
      if (lives[i] > 0 && waitpid(children[i], &status, WNOHANG) != children[i]) continue;
      if (lives[i] > 0 && WIFEXITED(status)) {
        lives[i] = 3;
        ended++;
        continue;
      }
      lives[i]++;
      if ((children[i] = fork()) != 0) continue;
      for (__u64 value = done[i]; value < kRecords;) {
        if (produce(OP_SUBMIT, value % 2 ? 8 : 100, 0, value * 4 + i) == 0) {
          done[i] = ++value;
        } else {
          usleep(100);
        }
      }
      _exit(0);
    }
    int got = ring_buffer__poll(consumer, 100);
    if (got < 0 && got != -EINTR) printf("poll: %d\n", got);
    if (ended == kProducers && got == 0 && ++idle == 20) break;
  }
  // A record that was submitted but not yet noted is written again by the second life.
  printf("all there: %s, wrong: %u\n",
         seen >= kProducers * kRecords && seen <= kProducers * (kRecords + 1) ? "yes" : "no",
         wrong > kProducers ? wrong : 0);
}

static void requests(void) {
  enum { kRequests = 2000 };
  struct user_ring_buffer* producer = user_ring_buffer__new(requests_fd, NULL);
  __u64 sum = 0;
  int status;

  if (producer == NULL) return;
  const pid_t child = fork();
  if (child == 0) {
    long total = 0;
    while (total < kRequests) {
      struct call call = {0, 0, 0, 0};
      int result = run(drain_fd, &call);
      if (result < 0 || call.operation != 0) _exit(1);
      total += result;
      usleep(500);
    }
    _exit(total == kRequests ? 0 : 2);
  }
  for (int i = 0; i < kRequests; i++) {
    __u64* sample = user_ring_buffer__reserve_blocking(producer, 8 + i % 200, 5000);
    if (sample == NULL) {
      printf("no room: %d\n", errno);
      break;
    }
    memset(sample, 0, 8);
    if (i % 7 == 0) {
      user_ring_buffer__discard(producer, sample);
      i--;
      sum++;
      if (sum % 2) continue;
      sample = user_ring_buffer__reserve_blocking(producer, 8, 5000);
      if (sample == NULL) break;
      i++;
    }
    sample[0] = i;
    user_ring_buffer__submit(producer, sample);
  }
  waitpid(child, &status, 0);
  printf("drained: %s\n", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "all" : "no");
}

static void mapping(const char* name, int fd, off_t page, size_t pages, int protection, int flags) {
  void* mapped = mmap(NULL, pages * 4096, protection, flags, fd, page * 4096);
  printf("%s page %d+%zu %s: %d\n", name, (int)page, pages, protection & PROT_WRITE ? "rw" : "r",
         mapped == MAP_FAILED ? errno : 0);
  if (mapped != MAP_FAILED) munmap(mapped, pages * 4096);
}

static short polled(int fd, short events) {
  struct pollfd state = {fd, events, 0};
  poll(&state, 1, 0);
  return state.revents;
}

static void rules(void) {
  const size_t data = RING_SIZE / 4096;
  for (int i = 0; i < 2; i++) {
    const char* name = i ? "requests" : "ring";
    int fd = i ? requests_fd : ring_fd;
    mapping(name, fd, 0, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
    mapping(name, fd, 0, 2, PROT_READ | PROT_WRITE, MAP_SHARED);
    mapping(name, fd, 1, 1 + 2 * data, PROT_READ | PROT_WRITE, MAP_SHARED);
    mapping(name, fd, 0, 2 + 2 * data, PROT_READ, MAP_SHARED);
    mapping(name, fd, 0, 3 + 2 * data, PROT_READ, MAP_SHARED);
    mapping(name, fd, 1, 2 + 2 * data, PROT_READ, MAP_SHARED);
    mapping(name, fd, 0, 1, PROT_READ, MAP_PRIVATE);
    __u32 key = 0;
    printf("lookup %d", bpf_map_lookup_elem(fd, NULL, &key));
    printf(" %d", bpf_map_lookup_elem(fd, &key, &key));
    printf(" update %d", bpf_map_update_elem(fd, NULL, &key, 0));
    printf(" delete %d", bpf_map_delete_elem(fd, NULL));
    printf(" next %d\n", bpf_map_get_next_key(fd, NULL, &key));
  }
  __u64* consumer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
  __u64* producer = mmap(NULL, (1 + 2 * data) * 4096, PROT_READ, MAP_SHARED, ring_fd, 4096);
  printf("poll empty %x\n", polled(ring_fd, POLLIN | POLLOUT));
  printf("output %d\n", produce(OP_OUTPUT, 5, 0, 0x41));
  printf("poll one %x, positions %llu %llu, header %x\n", polled(ring_fd, POLLIN | POLLOUT), consumer[0], producer[0],
         *(__u32*)&producer[512]);
  consumer[0] = producer[0];
  printf("poll none %x\n", polled(ring_fd, POLLIN | POLLOUT));
  consumer[0] += 8;
  printf("poll bogus %x\n", polled(ring_fd, POLLIN));

  __u64* position = mmap(NULL, (1 + 2 * data) * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, requests_fd, 4096);
  struct call call = {0, 0, 0, 0};
  printf("poll requests %x\n", polled(requests_fd, POLLIN | POLLOUT));
  position[0] = 4;
  printf("drain misaligned %d\n", run(drain_fd, &call));
  position[0] = 16;
  *(__u32*)&position[512] = 64;
  printf("drain too long %d\n", run(drain_fd, &call));
  position[0] = 16384;
  *(__u32*)&position[512] = 8192;
  printf("drain huge %d\n", run(drain_fd, &call));
  *(__u32*)&position[512] = 8 | 1U << 31;
  printf("drain busy %d\n", run(drain_fd, &call));
  call.flags = 4;
  printf("drain flags %d\n", run(drain_fd, &call));
  position[0] = RING_SIZE;
  printf("poll full %x\n", polled(requests_fd, POLLOUT));
  position[0] = 32;
  *(__u32*)&position[512] = 8 | 1U << 30;
  *(__u32*)&position[514] = 8;
  position[515] = 77;
  call.flags = 0;
  int drained = run(drain_fd, &call);
  printf("drain %d sum %llu\n", drained, call.value);
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct bpf_object* object = argc == 3 ? bpf_object__open_file(argv[2], NULL) : NULL;
  if (object == NULL || bpf_object__load(object) != 0) {
    fprintf(stderr, "ring_buffers: cannot load\n");
    return 1;
  }
  produce_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "produce"));
  drain_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "drain"));
  ring_fd = bpf_object__find_map_fd_by_name(object, "ring");
  requests_fd = bpf_object__find_map_fd_by_name(object, "requests");
  if (strcmp(argv[1], "random") == 0) random_operations();
  if (strcmp(argv[1], "processes") == 0) processes();
  if (strcmp(argv[1], "requests") == 0) requests();
  if (strcmp(argv[1], "rules") == 0) rules();
  return 0;
}
