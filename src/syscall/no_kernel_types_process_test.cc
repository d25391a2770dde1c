// SPDX-License-Identifier: Apache-2.0
// On a host that shows no types of its kernel: what needs them is refused with a sentence, everything else works. The
// process has a mount namespace of its own, in which an empty directory hides them.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include "btf/btf_builder.h"
#include "btf/kernel_btf.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class NoKernelTypes : public TwoFaces {
 protected:
  static void SetUpTestSuite() {
    const bool own = ::unshare(CLONE_NEWNS) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
    hidden_ = ::access("/sys/kernel/btf", F_OK) != 0 ||
              (own && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("none", "/sys/kernel/btf", "tmpfs", 0, nullptr) == 0);
  }
  void SetUp() override {
    if (!hidden_) GTEST_SKIP() << "no mount namespace of our own";
    TwoFaces::SetUp();
  }
  static int load_types(Face& face, const BtfBuilder& types) {
    const auto raw = types.raw();
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    return face.call(BPF_BTF_LOAD, attr);
  }
  static bool hidden_;
};
bool NoKernelTypes::hidden_ = false;

TEST_F(NoKernelTypes, AreNotFound) {
  const auto types = KernelBtf::read();
  ASSERT_FALSE(types);
  EXPECT_EQ(to_int(types.error()), ENOENT);
  EXPECT_NE(std::string(last_error_sentence()).find(KernelBtf::kPath), std::string::npos) << last_error_sentence();
}

TEST_F(NoKernelTypes, KernelFunctionsAreRefusedAsByAKernelWithoutTypes) {
  Face skep(process_.get());
  for (const uint32_t id : {0U, 1U, 12345U, UINT32_MAX}) {
    ProgramToLoad caller = program({call_kernel(id), mov(r0, 0), exit_()}, BPF_PROG_TYPE_SYSCALL);
    EXPECT_EQ(caller.load_with_log(skep), -SKEP_ENOTSUPP) << id;
    EXPECT_NE(caller.log.find("/sys/kernel/btf/vmlinux"), std::string::npos) << caller.log;
  }
}

TEST_F(NoKernelTypes, IteratorsAreRefused) {
  Face skep(process_.get());
  ProgramToLoad iterator = returning(0, BPF_PROG_TYPE_TRACING);
  bpf_attr attr = iterator.attr();
  attr.expected_attach_type = BPF_TRACE_ITER;
  attr.attach_btf_id = 1234;
  EXPECT_EQ(skep.call(BPF_PROG_LOAD, attr), -EINVAL);
}

TEST_F(NoKernelTypes, EverythingElseWorks) {
  Face skep(process_.get());
  const int array = skep.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1));
  ASSERT_GE(array, 0);
  const int fd = program({load_map_value(r1, static_cast<uint32_t>(array), 0), mov(r2, 5), atomic(kDw, kAdd, r1, 0, r2),
                          load(kDw, r0, r1, 0), exit_()},
                         BPF_PROG_TYPE_SYSCALL)
                     .load(skep);
  ASSERT_GE(fd, 0) << last_error_sentence();
  bpf_attr run = run_attr(fd);
  ASSERT_EQ(skep.call(BPF_PROG_TEST_RUN, &run, sizeof run), 0) << last_error_sentence();
  EXPECT_EQ(run.test.retval, 5U);
  ::close(fd);
  ::close(array);

  // Fields that the kernel knows by name, and one that points to a struct whose owner cannot be told.
  BtfBuilder b;
  const uint32_t u32 = b.integer("unsigned int", 4), u64 = b.integer("unsigned long", 8);
  const uint32_t lock = b.structure("bpf_spin_lock", 4, {{"val", u32, 0}});
  const uint32_t timer = b.structure("bpf_timer", 16, {{"opaque", b.array(u64, u32, 2), 0}});
  const uint32_t target = b.structure("file", 8, {{"x", u64, 0}});
  const uint32_t pointer = b.add(BtfKind::kPtr, "", b.add(BtfKind::kTypeTag, "kptr", target));
  const uint32_t value =
      b.structure("value", 32, {{"timer", timer, 0}, {"pointer", pointer, 128}, {"lock", lock, 192}, {"n", u32, 224}});
  const int btf = load_types(skep, b);
  ASSERT_GE(btf, 0) << last_error_sentence();
  bpf_attr attr = map_attr(BPF_MAP_TYPE_HASH, 4, 32, 4);
  attr.btf_fd = static_cast<uint32_t>(btf);
  attr.btf_key_type_id = u32;
  attr.btf_value_type_id = value;
  const int map = skep.call(BPF_MAP_CREATE, attr);
  EXPECT_GE(map, 0) << last_error_sentence();
  ::close(map);
  ::close(btf);
}

}  // namespace
}  // namespace skep
