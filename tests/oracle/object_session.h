// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "side.h"

namespace skep::oracle {

/// One side of a comparison of fixed scenarios: does what it is told through one bpf(2) and writes down how it went.
/// Scenarios run once on each side; the two transcripts must be equal.
class ObjectSession {
 public:
  explicit ObjectSession(BpfFunction bpf) : bpf_(bpf) {}
  ObjectSession(const ObjectSession&) = delete;
  ObjectSession& operator=(const ObjectSession&) = delete;
  ~ObjectSession();

  using Bytes = std::vector<uint8_t>;
  template <class T>
  static Bytes bytes(const T& value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    return {from, from + sizeof value};
  }

  /// A descriptor, or -errno, which the following commands take as it is. Closed with the session.
  int create(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries, uint32_t flags = 0);
  int load(uint32_t type, const std::vector<bpf_insn>& code, uint32_t attach_type = 0);

  int update(int map, const Bytes& key, const Bytes& value, uint64_t flags = 0);
  int erase(int map, const Bytes& key);
  /// 0 and the value written down, except where it is `hidden`: the word for it is then written instead.
  int lookup(int map, const Bytes& key, uint32_t value_size, const Bytes& hidden = {});
  int next_key(int map, const Bytes* key, uint32_t key_size);
  int take(int map, const Bytes& key);
  int freeze(int map);
  /// Writes the flags down that the map shows.
  int flags_of(int map);
  int batch(uint32_t command, int map);
  /// The program on a packet of 64 bytes; -1 and `errno` written down, or what it returned.
  int run_packet(int program);
  int run_raw(int program);

  /// Writes a line of its own.
  void note(const std::string& text) { lines_.push_back(text); }
  /// Prefix of the lines to come.
  void about(const std::string& what) { about_ = what; }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

 private:
  int call(int command, union bpf_attr& attr);
  int record(const std::string& what, int result);

  BpfFunction bpf_;
  std::string about_;
  std::vector<std::string> lines_;
  std::vector<int> descriptors_;
};

}  // namespace skep::oracle
