// SPDX-License-Identifier: Apache-2.0
#include "programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "request_trace.skel.h"
#pragma GCC diagnostic pop

std::expected<Programs, std::string> Programs::load() {
  Programs programs;
  programs.skeleton_.reset(request_trace__open_and_load());
  if (programs.skeleton_ == nullptr) {
    return std::unexpected("cannot load the BPF programs: " + std::string(std::strerror(errno)));
  }
  const auto& maps = programs.skeleton_->maps;
  programs.maps_ = {.tasks = id_of(maps.tasks),
                    .connections = id_of(maps.connections),
                    .cgroups = id_of(maps.cgroups),
                    .latencies = id_of(maps.latencies)};
  return programs;
}

void Programs::Destroyer::operator()(request_trace* skeleton) const { request_trace__destroy(skeleton); }

/// 0, which no map has, where it cannot be told.
uint32_t Programs::id_of(const bpf_map* map) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(bpf_map__fd(map), &info, &size) == 0 ? info.id : 0;
}

void Programs::run(const bpf_program* program, request arguments) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &arguments, .ctx_size_in = sizeof arguments);
  if (const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options); error != 0) {
    std::fprintf(stderr, "%s: %s\n", bpf_program__name(program), std::strerror(-error));
    std::exit(1);
  }
}

void Programs::begin(const request& arguments) const { run(skeleton_->progs.request_begin, arguments); }
void Programs::end(const request& arguments) const { run(skeleton_->progs.request_end, arguments); }

uint64_t Programs::answered_bytes() const { return __atomic_load_n(&skeleton_->bss->answered, __ATOMIC_RELAXED); }
