// SPDX-License-Identifier: Apache-2.0
// What iterators may touch where the kernel has its verifier, and kinds that it does not have.
#include "btf/btf_builder.h"
#include "syscall/link_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kSpinLock = 93, kSpinUnlock = 94, kSeqWrite = 127;

class LinkIterate : public LinkTest {
 protected:
  void SetUp() override {
    LinkTest::SetUp();
    face_ = std::make_unique<Face>(process_.get());
  }
  /// An array of one element: a bpf_spin_lock at 0 and a number at 8.
  int locked_map() {
    BtfBuilder types;
    const uint32_t word = types.integer("unsigned int", 4), number = types.integer("unsigned long", 8);
    const uint32_t lock = types.structure("bpf_spin_lock", 4, {{"val", word, 0}});
    const uint32_t value = types.structure("value", 16, {{"lock", lock, 0}, {"number", number, 64}});
    const std::vector<std::byte> raw = types.raw();
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = keep(face_->call(BPF_BTF_LOAD, attr));
    EXPECT_GE(btf, 0);
    attr = map_attr(BPF_MAP_TYPE_ARRAY, 4, 16, 1);
    attr.btf_fd = static_cast<uint32_t>(btf);
    attr.btf_key_type_id = word;
    attr.btf_value_type_id = value;
    return keep(face_->call(BPF_MAP_CREATE, attr));
  }
  /// Runs `code` with the value in R2 on each element; "" or the error.
  std::string run(int map, std::initializer_list<Code> code) {
    std::vector<bpf_insn> whole =
        assemble({mov(r6, r1), assembler::load(kDw, r2, r1, 24), jump_if(kJne, r2, 0, 2), mov(r0, 0), exit_()});
    const std::vector<bpf_insn> rest = assemble(code), end = assemble({mov(r0, 0), exit_()});
    whole.insert(whole.end(), rest.begin(), rest.end());
    whole.insert(whole.end(), end.begin(), end.end());
    clear_last_error();
    return text_of(*face_, link(*face_, LinkTest::load(*face_, whole), map));
  }
  const std::string fault_ = "errno 14";
  std::unique_ptr<Face> face_;
};

TEST_F(LinkIterate, SpecialFieldsAreNotThePrograms) {
  const int map = locked_map();
  ASSERT_GE(map, 0);
  EXPECT_EQ(run(map, {assembler::load(kW, r3, r2, 0)}), fault_);
  EXPECT_EQ(run(map, {store(kW, r2, 0, 1)}), fault_);
  EXPECT_EQ(run(map, {mov(r1, r2), call(kSpinLock), mov(r1, r2), call(kSpinUnlock)}), "errno 22");
  // The number behind the lock is.
  EXPECT_EQ(run(map, {store(kDw, r2, 8, 77)}), "");
  const uint32_t key = 0;
  uint64_t value[2] = {};
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, value)), 0);
  EXPECT_EQ(value[0], 0U);
  EXPECT_EQ(value[1], 77U);
}

TEST_F(LinkIterate, NothingBeyondTheElement) {
  const int map = keep(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 12, 4)));
  EXPECT_EQ(run(map, {assembler::load(kW, r3, r2, 8)}), "");
  EXPECT_EQ(run(map, {assembler::load(kW, r3, r2, 12)}), fault_);
  EXPECT_EQ(run(map, {assembler::load(kW, r3, r2, -4)}), fault_);
  EXPECT_EQ(run(map, {store(kW, r2, 12, 1)}), fault_);
  EXPECT_NE(std::string_view(last_error_sentence()), "");
  EXPECT_EQ(run(map, {assembler::load(kDw, r3, r6, 16), store(kW, r3, 0, 1)}), fault_) << "keys are constant";
  EXPECT_EQ(run(map, {assembler::load(kDw, r3, r6, 0), store(kDw, r3, 0, 1)}), fault_) << "and so is meta";
  EXPECT_EQ(run(map, {assembler::load(kDw, r3, r6, 8), store(kDw, r3, 0, 1)}), fault_) << "and the map";
  EXPECT_EQ(
      run(map, {assembler::load(kDw, r3, r6, 0), assembler::load(kDw, r3, r3, 0), assembler::load(kDw, r3, r3, 0)}),
      fault_)
      << "the seq_file is no memory";
  EXPECT_EQ(run(map, {store(kDw, r6, 24, 0)}), fault_) << "nor is the context written";
}

TEST_F(LinkIterate, MapsThatProgramsMayNotWrite) {
  const int map = keep(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_RDONLY_PROG)));
  EXPECT_EQ(run(map, {assembler::load(kDw, r3, r2, 0)}), "");
  EXPECT_EQ(run(map, {store(kDw, r2, 0, 1)}), fault_);
}

TEST_F(LinkIterate, TheTextIsWrittenByTheSequenceOnly) {
  const int map = keep(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1)));
  EXPECT_EQ(run(map, {mov(r1, r2), mov(r3, 8), call(kSeqWrite)}), "errno 22") << "the value is no seq_file";
  EXPECT_EQ(run(map, {assembler::load(kDw, r1, r6, 0), assembler::load(kDw, r1, r1, 0), mov(r3, 9), call(kSeqWrite)}),
            fault_)
      << "9 bytes of a value of 8";
  EXPECT_EQ(run(map, {assembler::load(kDw, r1, r6, 0), assembler::load(kDw, r1, r1, 0), mov(r3, 8), call(kSeqWrite)}),
            std::string(8, '\0'));
}

TEST_F(LinkIterate, EveryCpusValueIsShown) {
  const int map = keep(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 3, 1)));
  const uint32_t cpus = process_->machine.cpus(), key = 0;
  std::vector<uint64_t> values(cpus);
  for (uint32_t cpu = 0; cpu < cpus; ++cpu) values[cpu] = 0x10101 * (cpu + 1);
  ASSERT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, values.data())), 0);
  const std::string text = run(map, {assembler::load(kDw, r1, r6, 0), assembler::load(kDw, r1, r1, 0),
                                     mov(r3, static_cast<int32_t>(cpus * 8)), call(kSeqWrite)});
  ASSERT_EQ(text.size(), cpus * 8);
  EXPECT_EQ(std::memcmp(text.data(), values.data(), text.size()), 0);
  EXPECT_EQ(run(map, {assembler::load(kB, r3, r2, static_cast<int>(cpus) * 8)}), fault_);
}

TEST_F(LinkIterate, NewestHashMaps) {
  bpf_attr attr = map_attr(BPF_MAP_TYPE_RHASH, 4, 8, 100, BPF_F_NO_PREALLOC);
  const int map = keep(face_->call(BPF_MAP_CREATE, attr));
  ASSERT_GE(map, 0);
  for (uint32_t key = 0; key < 20; ++key) {
    const uint64_t value = key;
    ASSERT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), 0);
  }
  EXPECT_EQ(text_of(*face_, link(*face_, LinkTest::load(*face_, recorder()), map)).size(), 20 * sizeof(Record) + 8);
}

TEST_F(LinkIterate, RefusalsSayWhy) {
  clear_last_error();
  EXPECT_EQ(LinkTest::load(*face_, verdict(0), "bpf_iter_task"), -EINVAL);
  EXPECT_NE(std::string_view(last_error_sentence()).find("map elements"), std::string_view::npos);
  clear_last_error();
  EXPECT_EQ(LinkTest::load(*face_, verdict(0), "bpf_iter_bpf_map_elem", 24), -EINVAL);
  EXPECT_NE(std::string_view(last_error_sentence()).find("iterators"), std::string_view::npos);
}

}  // namespace
}  // namespace skep
