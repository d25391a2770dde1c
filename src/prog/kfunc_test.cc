// SPDX-License-Identifier: Apache-2.0
#include "prog/kfunc.h"

#include "btf/kernel_btf.h"
#include "prog/kernel_oracle.h"
#include "prog/program_test_support.h"

namespace skep::testing {
namespace {

using namespace assembler;

class KfuncTest : public ProgramTest {
 protected:
  static uint32_t id_of(std::string_view name) {
    const auto types = KernelBtf::read();
    return types ? types->find(BtfKind::kFunc, name) : 0;
  }
};

#define SKIP_WITHOUT_BTF() \
  if (!KernelBtf::read()) GTEST_SKIP() << last_error_sentence()

TEST_F(KfuncTest, ProgramsCallByTheIdsOfTheRunningKernel) {
  SKIP_WITHOUT_BTF();
  EXPECT_EQ(value_of(assemble({call_kernel(id_of("bpf_rcu_read_lock")), call_kernel(id_of("bpf_rcu_read_unlock")),
                               mov(r0, 7), exit_()})),
            7U);
}

TEST_F(KfuncTest, NamesAndIdsGoTogether) {
  SKIP_WITHOUT_BTF();
  const uint32_t id = id_of("bpf_rcu_read_unlock");
  EXPECT_EQ(kfunc_of(id).value_or(nullptr), find_kfunc("rcu_read_unlock"));
}

TEST_F(KfuncTest, OthersAreRefused) {
  SKIP_WITHOUT_BTF();
  EXPECT_EQ(error_of(kfunc_of(id_of("vprintk"))), EACCES);
  EXPECT_EQ(error_of(kfunc_of(1)), EINVAL);
  EXPECT_EQ(error_of(kfunc_of(UINT32_MAX)), EINVAL);
  EXPECT_NE(refusal(assemble({call_kernel(1), mov(r0, 0), exit_()})), "");
  const auto code = assemble({call_kernel(id_of("bpf_rcu_read_lock")), mov(r0, 0), exit_()});
  EXPECT_NE(refusal(code, BPF_PROG_TYPE_SYSCALL, false), "") << "not GPL-compatible";
}

TEST_F(KfuncTest, TheKernelGivesTheSameErrors) {
  SKIP_WITHOUT_BTF();
  if (const auto reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
  const auto error_in_kernel = [](uint32_t id) {
    const auto code = assemble({call_kernel(id), mov(r0, 0), exit_()});
    return KernelProgram(code, BPF_PROG_TYPE_SYSCALL).error();
  };
  for (const uint32_t id : {1U, 0x7fffffffU, id_of("vprintk")}) EXPECT_EQ(error_in_kernel(id), error_of(kfunc_of(id)));
}

}  // namespace
}  // namespace skep::testing
