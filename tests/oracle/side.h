// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <string>
#include <vector>

namespace skep::oracle {

/// bpf(2) as the kernel has it, and as skep has it: one function type.
using BpfFunction = int (*)(int command, union bpf_attr* attr, unsigned int size);

int kernel_bpf(int command, union bpf_attr* attr, unsigned int size);

/// One of the two that are compared: its function, and the descriptors that stand for the logical objects of a run.
struct Side {
  const char* name;
  BpfFunction bpf;
  std::vector<int> maps;  // by logical number; -1: closed
  std::vector<int> btfs;
};

/// Why the kernel cannot be asked ("" when it can): bpf(2) missing or refused on this machine.
std::string kernel_refuses();

}  // namespace skep::oracle
