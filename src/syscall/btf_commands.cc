// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "btf/btf.h"
#include "btf/btf_file.h"
#include "syscall/commands.h"
#include "syscall/log_buffer.h"

namespace skep {
namespace {

/// What a process keeps of a BTF object.
class BtfFace : public ObjectFace {
 public:
  explicit BtfFace(std::shared_ptr<const Btf> checked) : btf(std::move(checked)) {}
  const std::shared_ptr<const Btf> btf;
};

/// A file with the BTF, published and in the descriptor table.
Answer publish_btf(Caller& caller, std::shared_ptr<const Btf> btf) {
  auto file = caller.instance().make_file(ObjectKind::kBtf);
  if (!file) return std::unexpected(file.error());
  if (Status status = write_btf_file(file->get(), btf->raw()); !status) return std::unexpected(status.error());
  const int raw_fd = file->get();
  auto id =
      caller.instance().publish(ObjectKind::kBtf, raw_fd, [raw_fd](uint32_t given) { store_file_id(raw_fd, given); });
  if (!id) return std::unexpected(id.error());
  // A descriptor of BTF is read-only.
  auto reader = caller.instance().open_by_id(ObjectKind::kBtf, *id, O_RDONLY);
  if (!reader) return std::unexpected(reader.error());
  return caller.descriptors().install(std::move(*reader));
}

Status copy_and_check(const bpf_attr& attr, VerifierLog& log, std::shared_ptr<const Btf>& btf) {
  std::vector<std::byte> raw(attr.btf_size);
  if (!read_user(raw.data(), attr.btf, raw.size())) return fail(EFAULT);
  auto parsed = Btf::parse(raw, &log);
  if (!parsed) return std::unexpected(parsed.error());
  btf = std::move(*parsed);
  return {};
}

}  // namespace

Answer btf_load(Caller& caller) {
  const bpf_attr& attr = caller.attr;
  if ((attr.btf_flags & ~static_cast<uint32_t>(BPF_F_TOKEN_FD)) != 0) return fail(EINVAL);
  if ((attr.btf_flags & BPF_F_TOKEN_FD) != 0) return fail(EINVAL);  // there are no tokens, so it cannot be one
  if (attr.btf_size > Btf::kMaxSize) return fail(E2BIG);
  const LogBuffer buffer{attr.btf_log_buf, attr.btf_log_size, attr.btf_log_level};
  if (Status status = buffer.check(); !status) return std::unexpected(status.error());

  VerifierLog log(buffer.level);
  std::shared_ptr<const Btf> btf;
  Status status = copy_and_check(attr, log, btf);
  // What becomes of the log goes before what became of the BTF: a client that lost part of it is told so.
  if (Status logged = buffer.finish(log); !logged) status = logged;
  const uint32_t true_size = buffer.level != 0 ? log.true_size() : 0;
  if (!caller.write_back(offsetof(bpf_attr, btf_log_true_size), true_size, false)) return fail(EFAULT);
  if (!status) return std::unexpected(status.error());
  return publish_btf(caller, std::move(btf));
}

Result<std::shared_ptr<ObjectFace>> open_btf(Process&, int fd, const FileHeader&) {
  auto btf = read_btf_file(fd);
  if (!btf) return std::unexpected(btf.error());
  return std::make_shared<BtfFace>(std::move(*btf));
}

const Btf& btf_of(const OpenObject& object) { return *static_cast<const BtfFace&>(*object.face).btf; }

Answer btf_info(Caller& caller, const OpenObject& object) {
  const auto size = check_info_size(caller.attr.info.info, caller.attr.info.info_len, sizeof(bpf_btf_info));
  if (!size) return std::unexpected(size.error());
  bpf_btf_info info{};
  if (!read_user(&info, caller.attr.info.info, *size)) return fail(EFAULT);
  const auto raw = btf_of(object).raw();
  const auto copied = std::min<size_t>(raw.size(), info.btf_size);
  if (!write_user(info.btf, raw.data(), copied)) return fail(EFAULT);
  info.btf_size = static_cast<uint32_t>(raw.size());
  info.id = object.id;
  // BTF that a client loaded has no name; it is told so in the shape of a string.
  if ((info.name != 0) != (info.name_len != 0)) return fail(EINVAL);
  if (info.name != 0 && !write_user(info.name, "", 1)) return fail(EFAULT);
  info.name_len = 0;
  info.kernel_btf = 0;
  return finish_info(caller, &info, *size);
}

std::string btf_fdinfo(const OpenObject& object) { return "btf_id:\t" + std::to_string(object.id) + "\n"; }

}  // namespace skep
