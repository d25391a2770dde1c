// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "memory/segment.h"
#include "prog/program_image.h"
#include "prog/runtime.h"
#include "syscall/commands.h"

namespace skep {

/// What a process keeps of a program object: its image, the shared counters, and, once it is run here, the code made
/// ready with the maps that it names. Any thread.
class ProgramFace : public ObjectFace {
 public:
  ProgramFace(ProgramImage image, Segment counters) : image_(std::move(image)), counters_(std::move(counters)) {}

  [[nodiscard]] const ProgramImage& image() const { return image_; }
  [[nodiscard]] ProgramCounters& counters() const { return *reinterpret_cast<ProgramCounters*>(counters_.data()); }
  /// Whether this process may write the counters (a pin may have been made read-only).
  [[nodiscard]] bool counts() const { return counters_.writable(); }
  /// The ids of the maps it names, then of those bound to it.
  [[nodiscard]] std::vector<uint32_t> map_ids() const;

  /// The program ready to run, prepared at the first call. ENOENT: one of its maps is gone, which only happens to
  /// programs that nobody keeps alive; errors of Program::prepare().
  Result<const Program*> ready(FdTable& descriptors) const;

 private:
  const ProgramImage image_;
  const Segment counters_;
  mutable std::unique_ptr<Program> program_;            // written once, while all others wait
  mutable std::atomic<const Program*> ready_{nullptr};  // program_ when it is complete
};

/// The face of an object whose kind is kProgram.
const ProgramFace& program_of(const OpenObject& object);

/// The tag in hexadecimal digits.
std::string tag_text(const ProgramFacts& facts);

/// A program's description for the runtime, over `image` and its opened maps.
ProgramDescription describe(const ProgramImage& image, std::vector<std::shared_ptr<Map>> maps);

}  // namespace skep
