// SPDX-License-Identifier: Apache-2.0
#include "prog/runtime.h"

#include <sched.h>

#include <cerrno>
#include <utility>
#include <variant>

#include "prog/decode.h"
#include "prog/helper.h"
#include "prog/run.h"

namespace skep {

namespace {

bool context_fits(uint32_t type, const RunContext& context) {
  const uint16_t bit = helper_type_bit(type);
  if ((bit & kXdp) != 0) return std::holds_alternative<XdpContext*>(context);
  if ((bit & kSkb) != 0) return std::holds_alternative<SkbContext*>(context);
  return std::holds_alternative<BytesContext*>(context);
}

}  // namespace

struct Runner::State {
  Run run;
};

bool program_type_supported(uint32_t type) { return helper_type_bit(type) != 0; }

Program::Program(std::shared_ptr<DecodedCode> code) : code_(std::move(code)) {}
Program::~Program() = default;

Result<std::unique_ptr<Program>> Program::prepare(const ProgramDescription& description) {
  if (!program_type_supported(description.type)) return fail_because(EINVAL, "programs of that type do not run here");
  auto code = decode(description);
  if (!code) return std::unexpected(code.error());
  return std::unique_ptr<Program>(new Program(std::move(*code)));
}

uint32_t Program::type() const { return code_->type; }

Lease::Cpu current_cpu(const Machine& machine) {
  const int cpu = sched_getcpu();
  return {cpu < 0 ? 0 : static_cast<uint32_t>(cpu) % machine.cpus()};
}

Runner::Runner() : state_(std::make_unique<State>()) {}
Runner::~Runner() = default;

Result<uint64_t> Runner::run(const Program& program, const Lease& lease, RunContext context,
                             const RunEnvironment& environment) {
  if (!context_fits(program.type(), context)) return fail_because(EINVAL, "a context of another program type");
  Run& run = state_->run;
  const uint64_t result = run.start(program.code(), lease, context, environment);
  if (run.stopped() != 0) return fail_because(run.stopped(), run.reason());
  return result;
}

Result<uint64_t> Runner::call_back(const DecodedCode& code, uint32_t function, const MapBinding& map, const void* key,
                                   void* value, const Lease& lease, const RunEnvironment& environment) {
  Run& run = state_->run;
  const uint64_t result = run.start_callback(code, function, map, key, value, lease, environment);
  if (run.stopped() != 0) return fail_because(run.stopped(), run.reason());
  return result;
}

uint64_t Runner::instructions() const { return state_->run.charged(); }

}  // namespace skep
