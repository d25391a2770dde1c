// SPDX-License-Identifier: Apache-2.0
// perf_buffers WHAT OBJECT: libbpf's perf_buffer against programs that this process and others run. Everything it
// prints is the same on the kernel and under skep.
//   rules      what maps of events, events and outputs answer; the bytes of records
//   random     a fixed sequence of random outputs: what each gave, and all that perf_buffer handed over
//   processes  three producers, each killed once, one consumer that sleeps in perf_buffer__poll()
//   emit       one stamped record on every CPU, for consumers elsewhere

#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perf_buffers.h"

#define PAGE 4096L
#define HERE 0xffffffffULL  // BPF_F_CURRENT_CPU

static int emit_fd, skb_fd, xdp_fd, events_fd, scratch_fd;

static int run(__u64 flags, __u64 size, __u64 operation, __u64 value, int cpu) {
  __u64 arguments[4] = {flags, size, operation, value};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = arguments, .ctx_size_in = sizeof(arguments),
              .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = cpu);
  if (bpf_prog_test_run_opts(emit_fd, &options) != 0) {
    perror("test_run");
    exit(1);
  }
  return (int)options.retval;
}
static int output(__u64 flags, __u64 size) { return run(flags, size, OP_OUTPUT, 0, 0); }

static int run_packet(int program, __u64 flags) {
  static struct scratch scratch;
  __u32 zero = 0;
  char packet[64];
  for (unsigned i = 0; i < sizeof(packet); i++) packet[i] = i;
  scratch.flags = flags;
  bpf_map_update_elem(scratch_fd, &zero, &scratch, 0);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet));
  return bpf_prog_test_run_opts(program, &options) != 0 ? -errno : (int)options.retval;
}

static int open_event(int cpu, struct perf_event_attr attr) {
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_BPF_OUTPUT;
  attr.sample_period = 1;
  const int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

static void show_put(const char* what, __u32 key, int fd, __u64 flags) {
  printf("%s %d\n", what, bpf_map_update_elem(events_fd, &key, &fd, flags));
}

static void show_mmap(const char* what, int fd, long pages, int protection, int flags, long offset) {
  void* const place = mmap(NULL, pages * PAGE, protection, flags, fd, offset);
  printf("mmap %s %d\n", what, place == MAP_FAILED ? errno : 0);
  if (place != MAP_FAILED) munmap(place, pages * PAGE);
}

// The bytes of the ring from `from` to its head, and passes them.
static void show_new(const char* what, struct perf_event_mmap_page* page, __u64 mask_bytes) {
  const unsigned char* data = (const unsigned char*)page + page->data_offset;
  const __u64 head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
  printf("%s:", what);
  for (__u64 at = page->data_tail; at < head; at++) {
    if ((at - page->data_tail) < mask_bytes) printf(" %02x", data[at & (page->data_size - 1)]);
  }
  printf(" (%llu)\n", head - page->data_tail);
  __atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
}

static void show_creation(void) {
  static const int sizes[][3] = {{4, 8, 4}, {8, 4, 4}, {4, 0, 4}, {4, 4, 0}};
  for (int i = 0; i < 4; i++) {
    const int fd = bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, NULL, sizes[i][0], sizes[i][1], sizes[i][2], NULL);
    printf("create %d/%d/%d %d\n", sizes[i][0], sizes[i][1], sizes[i][2], fd < 0 ? fd : 0);
  }
  printf("flags");
  for (int bit = 0; bit < 20; bit++) {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = 1u << bit);
    const int fd = bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, NULL, 4, 4, 4, &options);
    if (fd >= 0) printf(" %d", bit);
    close(fd);
  }
  printf("\n");
}

static void show_elements(int event, int other, int disabled) {
  __u32 key = 0, value, next = 9, count = 1;
  printf("lookup %d", bpf_map_lookup_elem(events_fd, &key, &value));
  printf(" take %d", bpf_map_lookup_and_delete_elem(events_fd, &key, &value));
  printf(" batch %d", bpf_map_lookup_batch(events_fd, NULL, &next, &key, &value, &count, NULL));
  printf(" %d\n", bpf_map_update_batch(events_fd, &key, &value, &count, NULL));
  printf("empty: output %d", output(0, 8));
  printf(" %d", output(9, 8));
  printf(" %d", output(1ULL << 32, 8));
  printf(" %d", output(HERE, 8));
  printf(" read %d", run(3, 0, OP_READ, 0, 0));
  printf(" %d", run(9, 0, OP_READ, 0, 0));
  printf(" %d\n", run(1ULL << 32, 0, OP_READ, 0, 0));
  show_put("a map", 0, events_fd, 0);
  show_put("no descriptor", 0, 999, 0);
  show_put("negative", 0, -1, 0);
  show_put("beyond", MOST_CPUS, 999, 0);
  show_put("beyond, noexist", MOST_CPUS, 999, 1);
  show_put("noexist", 0, event, 1);
  show_put("exist", 0, event, 2);
  show_put("lock", 0, event, 4);
  show_put("event", 0, event, 0);
  show_put("again", 0, event, 0);
  if (other >= 0) show_put("other", 1, other, 0);
  show_put("disabled", 2, disabled, 0);
  printf("output without ring %d, other cpu %d, disabled %d\n", output(0, 8), other >= 0 ? output(1, 8) : -EOPNOTSUPP,
         output(2, 8));
}

static void show_mappings(int event) {
  show_mmap("0", event, 0, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("1", event, 1, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("2", event, 2, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("4", event, 4, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("5", event, 5, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("private", event, 5, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  show_mmap("offset", event, 5, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE);
  show_mmap("exec", event, 5, PROT_READ | PROT_EXEC, MAP_SHARED, 0);
}

static void show_records(struct perf_event_mmap_page* page, int event) {
  static const __u64 sizes[] = {0, 1, 4, 5, 12, 64, 4096, 65504, 65516};
  char text[32];
  for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    snprintf(text, sizeof(text), "size %llu %d", sizes[i], output(0, sizes[i]));
    show_new(text, page, 12);
  }
  while (output(0, 6000) == 0) {
  }
  for (int i = 0; i < 4; i++) output(0, 6000);
  __atomic_store_n(&page->data_tail, page->data_head, __ATOMIC_RELEASE);
  printf("after lost %d: ", output(0, 8));
  const unsigned char* lost = (const unsigned char*)page + PAGE + (page->data_tail & (page->data_size - 1));
  printf("type %u, %u bytes, lost %u, then %u\n", lost[0], lost[6], lost[16], lost[24]);
  __atomic_store_n(&page->data_tail, page->data_head, __ATOMIC_RELEASE);

  printf("pause %d", ioctl(event, PERF_EVENT_IOC_PAUSE_OUTPUT, 1));
  printf(" output %d", output(0, 8));
  printf(" resume %d", ioctl(event, PERF_EVENT_IOC_PAUSE_OUTPUT, 0));
  printf(" output %d\n", output(0, 8));
  printf("disable %d", ioctl(event, PERF_EVENT_IOC_DISABLE, 0));
  printf(" output %d", output(0, 8));
  printf(" enable %d", ioctl(event, PERF_EVENT_IOC_ENABLE, 0));
  printf(" output %d\n", output(0, 8));
  __u64 id = 0, period = 5;
  printf("id %d", ioctl(event, PERF_EVENT_IOC_ID, &id));
  printf(" %d reset %d", id != 0, ioctl(event, PERF_EVENT_IOC_RESET, 0));
  printf(" period %d", ioctl(event, PERF_EVENT_IOC_PERIOD, &period));
  printf(" filter %d", ioctl(event, PERF_EVENT_IOC_SET_FILTER, "x") == 0 ? 0 : errno);
  printf(" bogus %d\n", ioctl(event, _IO('$', 77)) == 0 ? 0 : errno);
  __atomic_store_n(&page->data_tail, page->data_head, __ATOMIC_RELEASE);

  static const __u64 lengths[] = {0, 1, 5, 64, 65};
  for (unsigned i = 0; i < 5; i++) {
    snprintf(text, sizeof(text), "skb %llu %d", lengths[i], run_packet(skb_fd, lengths[i] << 32 | HERE));
    show_new(text, page, 24);
    snprintf(text, sizeof(text), "xdp %llu %d", lengths[i], run_packet(xdp_fd, lengths[i] << 32 | HERE));
    show_new(text, page, 24);
  }
  printf("skb flags %d", run_packet(skb_fd, 1ULL << 52));
  printf(" index %d", run_packet(skb_fd, 9));
  printf(" xdp flags %d", run_packet(xdp_fd, 1ULL << 52));
  printf(" long and index %d\n", run_packet(xdp_fd, 100ULL << 32 | 9));
}

static void show_counts(int other) {
  __u32 zero = 0;
  static struct scratch scratch;
  printf("read %d", run(0, 0, OP_READ, 0, 0));
  printf(" other cpu %d", other >= 0 ? run(1, 0, OP_READ, 0, 0) : -EINVAL);
  printf(" value %d", run(0, 0, OP_READ_VALUE, 0, 0));
  bpf_map_lookup_elem(scratch_fd, &zero, &scratch);
  printf(" %llu %d %d", scratch.value.counter, scratch.value.enabled != 0, scratch.value.running != 0);
  printf(" disabled %d", run(2, 0, OP_READ_VALUE, 0, 0));
  bpf_map_lookup_elem(scratch_fd, &zero, &scratch);
  printf(" %llu %llu", scratch.value.enabled, scratch.value.running);
  printf(" size %d\n", run(0, 0, OP_READ_WRONG_SIZE, 0, 0));
}

static int reopen(int map) {
  struct bpf_map_info info;
  __u32 length = sizeof(info);
  memset(&info, 0, sizeof(info));
  return bpf_obj_get_info_by_fd(map, &info, &length) == 0 ? bpf_map_get_fd_by_id(info.id) : -1;
}

// Entries go with the open file of the map that they were made through.
static void show_ends(int event) {
  for (int preserve = 0; preserve < 2; preserve++) {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = preserve ? BPF_F_PRESERVE_ELEMS : 0);
    const int first = bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, NULL, 4, 4, 4, &options);
    const int second = reopen(first), copy = dup(first);
    __u32 one = 1, two = 2;
    bpf_map_update_elem(first, &one, &event, 0);
    bpf_map_update_elem(second, &two, &event, 0);
    close(first);
    const int third = reopen(second);
    close(copy);
    printf("preserve %d: delete %d", preserve, bpf_map_delete_elem(third, &one));
    printf(" %d", bpf_map_delete_elem(third, &two));
    printf(" %d\n", bpf_map_delete_elem(third, &two));
    close(second);
    close(third);
  }
}

static void show_wakeups(void) {
  static const struct perf_event_attr kinds[] = {
      {.sample_type = PERF_SAMPLE_RAW, .wakeup_events = 1},
      {.sample_type = PERF_SAMPLE_RAW, .wakeup_events = 3},
      {.sample_type = PERF_SAMPLE_RAW, .watermark = 1, .wakeup_watermark = 200},
      {.sample_type = PERF_SAMPLE_RAW},
  };
  for (int kind = 0; kind < 4; kind++) {
    const int event = open_event(0, kinds[kind]);
    __u32 key = 3;
    struct perf_event_mmap_page* page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);
    bpf_map_update_elem(events_fd, &key, &event, 0);
    printf("wake-ups %d:", kind);
    for (int i = 0; i < 40; i++) {
      struct pollfd state = {.fd = event, .events = POLLIN};
      output(3, 52);
      const int ready = poll(&state, 1, 0);
      printf("%d", ready);
      if (ready == 1) __atomic_store_n(&page->data_tail, page->data_head, __ATOMIC_RELEASE);
    }
    printf("\n");
    bpf_map_delete_elem(events_fd, &key);
    munmap(page, 2 * PAGE);
    close(event);
  }
}

static void rules(void) {
  const struct perf_event_attr plain = {.sample_type = PERF_SAMPLE_RAW, .wakeup_events = 1};
  struct perf_event_attr stopped = plain;
  stopped.disabled = 1;
  const int event = open_event(0, plain), other = open_event(1, plain), disabled = open_event(0, stopped);
  printf("open %d %d, cpu 9999 %d\n", event >= 0, disabled >= 0, open_event(9999, plain));
  show_creation();
  show_elements(event, other, disabled);
  show_mappings(event);
  struct perf_event_mmap_page* page = mmap(NULL, 17 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);
  if (page == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  printf("page: offset %llu size %llu head %llu\n", page->data_offset, page->data_size, page->data_head);
  show_mmap("second of another size", event, 9, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  show_mmap("second for reading", event, 17, PROT_READ, MAP_SHARED, 0);
  show_records(page, event);
  show_counts(other);
  show_wakeups();
  show_ends(event);
  __u32 three = 3, beyond = MOST_CPUS, next;
  printf("delete empty %d", bpf_map_delete_elem(events_fd, &three));
  printf(" beyond %d", bpf_map_delete_elem(events_fd, &beyond));
  printf(" next %d\n", bpf_map_get_next_key(events_fd, &three, &next));
  const int frozen = reopen(events_fd);
  printf("freeze %d", bpf_map_freeze(frozen));
  printf(" update %d\n", bpf_map_update_elem(frozen, &three, &event, 0));
}

// -- perf_buffer ------------------------------------------------------------------------------------------------------

static __u64 digest = 14695981039346656037u;
static unsigned long records, lost_records, wrong;

static void add(const void* data, size_t size) {
  for (size_t i = 0; i < size; i++) digest = (digest ^ ((const unsigned char*)data)[i]) * 1099511628211u;
}
static void digest_sample(void* context, int cpu, void* data, __u32 size) {
  (void)context;
  (void)cpu;
  add(&size, sizeof(size));
  if (size >= 68) add(data, 64);  // behind it stands padding
  records++;
}
static void digest_lost(void* context, int cpu, __u64 count) {
  (void)context;
  (void)cpu;
  add(&count, sizeof(count));
  lost_records += count;
}

static void random_operations(void) {
  struct perf_buffer* buffer = perf_buffer__new(events_fd, 4, digest_sample, digest_lost, NULL, NULL);
  unsigned random = 12345, failed = 0;
  if (buffer == NULL) {
    perror("perf_buffer__new");
    exit(1);
  }
  for (int step = 0; step < 20000; step++) {
    random = random * 1103515245 + 12345;
    const unsigned action = random >> 16 & 15, more = random >> 20;
    int result;
    if (action < 8) {
      result = run(HERE, 0, OP_STAMPED, step, 0);
    } else if (action < 15) {
      result = output(more % 50 == 0 ? more % 7 : 0, more % 9 == 0 ? more : more % 300);
    } else {
      result = more % 4 == 0 ? perf_buffer__consume(buffer) : perf_buffer__poll(buffer, 0);
    }
    if (action < 15) failed += result < 0;
    if (action < 15) add(&result, sizeof(result));
  }
  perf_buffer__consume(buffer);
  printf("%u failed, %lu records, %lu lost, digest %llx\n", failed, records, lost_records, digest);
  perf_buffer__free(buffer);
}

#define PRODUCERS 3
#define RECORDS 20000

static __u64 last[PRODUCERS];
static unsigned long seen[PRODUCERS];

static void check_sample(void* context, int cpu, void* data, __u32 size) {
  __u64 values[8];
  (void)context;
  (void)cpu;
  if (size != 68) {
    wrong++;
    return;
  }
  memcpy(values, data, sizeof(values));
  const unsigned producer = values[0] >> 32;
  for (int i = 1; i < 8; i++) wrong += values[i] != values[0] * 31 + i;
  if (producer >= PRODUCERS) {
    wrong++;
    return;
  }
  wrong += (__u32)values[0] <= last[producer];  // each producer stays on its CPU, so its records are in order
  last[producer] = (__u32)values[0];
  seen[producer]++;
}
static void count_lost(void* context, int cpu, __u64 count) {
  (void)context;
  (void)cpu;
  lost_records += count;
}

struct progress {
  volatile __u64 written[PRODUCERS], failed[PRODUCERS];
};

static pid_t start_producer(struct progress* progress, unsigned producer, int cpu) {
  const pid_t child = fork();
  if (child != 0) return child;
  while (progress->written[producer] + progress->failed[producer] < RECORDS) {
    const __u64 number = progress->written[producer] + progress->failed[producer] + 1;
    const int result = run(HERE, 0, OP_STAMPED, (__u64)producer << 32 | number, cpu);
    if (result == 0) {
      progress->written[producer]++;
    } else if (result == -ENOSPC) {
      progress->failed[producer]++;
    } else {
      _exit(3);
    }
  }
  _exit(0);
}

// Of each killed producer one record may have been written, or failed, without having been counted.
static void processes(void) {
  const int cpus = libbpf_num_possible_cpus() < 2 ? 1 : 2;
  struct progress* progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct perf_buffer* buffer = perf_buffer__new(events_fd, 2, check_sample, count_lost, NULL, NULL);
  pid_t children[PRODUCERS];
  unsigned running = PRODUCERS, killed = 0;
  if (buffer == NULL) {
    perror("perf_buffer__new");
    exit(1);
  }
  for (unsigned i = 0; i < PRODUCERS; i++) children[i] = start_producer(progress, i, (int)i % cpus);
  while (running > 0) {
    if (perf_buffer__poll(buffer, 50) < 0 && errno != EINTR) wrong++;
    for (unsigned i = 0; i < PRODUCERS; i++) {
      int status;
      if (children[i] == 0) continue;
      if ((killed & 1u << i) == 0 && progress->written[i] > RECORDS / 3) {
        kill(children[i], SIGKILL);
        waitpid(children[i], &status, 0);
        killed |= 1u << i;
        progress->written[i] += WIFSIGNALED(status);  // its number is not used again
        children[i] = start_producer(progress, i, (int)i % cpus);
      } else if (waitpid(children[i], &status, WNOHANG) == children[i]) {
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        children[i] = 0;
        running--;
      }
    }
  }
  perf_buffer__consume(buffer);
  // What is lost is told with the next record that fits.
  for (int cpu = 0; cpu < cpus; cpu++) run(HERE, 8, OP_OUTPUT, 0, cpu);
  const unsigned long before = wrong;
  perf_buffer__consume(buffer);
  wrong = before;  // those two were not stamped
  unsigned long total = 0, written = 0, failed = 0;
  for (unsigned i = 0; i < PRODUCERS; i++) {
    total += seen[i];
    written += progress->written[i];
    failed += progress->failed[i];
  }
  const int complete = total <= written && total + PRODUCERS >= written;
  const int told = lost_records >= failed && lost_records <= failed + PRODUCERS;
  printf("every record: %s, lost ones told: %s, wrong: %lu\n", complete ? "yes" : "no", told ? "yes" : "no", wrong);
  if (!complete || !told) printf("%lu seen, %lu written, %lu failed, %lu told\n", total, written, failed, lost_records);
  perf_buffer__free(buffer);
}

static void emit_everywhere(void) {
  const int cpus = libbpf_num_possible_cpus();
  for (int cpu = 0; cpu < cpus && cpu < MOST_CPUS; cpu++) run(HERE, 0, OP_STAMPED, 0x6b656570, cpu);
}

int main(int count, char** arguments) {
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  sched_setaffinity(0, sizeof(first), &first);
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count < 3) return 2;
  const char* const what = arguments[1];
  struct bpf_object* const object = bpf_object__open(arguments[2]);
  if (object == NULL) return 1;
  if (count > 3) bpf_map__set_pin_path(bpf_object__find_map_by_name(object, "events"), arguments[3]);
  if (bpf_object__load(object) != 0) return 1;
  emit_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "emit"));
  skb_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "emit_skb"));
  xdp_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "emit_xdp"));
  events_fd = bpf_object__find_map_fd_by_name(object, "events");
  scratch_fd = bpf_object__find_map_fd_by_name(object, "scratches");
  if (strcmp(what, "rules") == 0) rules();
  if (strcmp(what, "random") == 0) random_operations();
  if (strcmp(what, "processes") == 0) processes();
  if (strcmp(what, "emit") == 0) emit_everywhere();
  bpf_object__close(object);
  return 0;
}
