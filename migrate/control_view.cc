// Reading Control from outside. The process may be running: counts are read first, and entries are
// published by the word that makes them visible, so a running process gives a slightly old picture only.
#include "migrate/control_view.hh"

#include <cstddef>

namespace godwit::migrate {

const ControlThread* ControlView::thread(uint32_t tid) const {
  for (const ControlThread& t : threads)
    if (t.tid == tid) return &t;
  return nullptr;
}

uint64_t ControlView::inside_address(size_t index) const {
  return address + offsetof(Control, threads) + index * sizeof(ControlThread) + offsetof(ControlThread, inside);
}

namespace {
template <class T>
Result<void> read_list(const Memory& memory, uint64_t address, uint32_t count, std::vector<T>& list) {
  list.resize(count);
  return memory.read(address, list.data(), count * sizeof(T));
}
}  // namespace

Result<ControlView> read_control(const Memory& memory, uint64_t address) {
  ControlView view;
  if (address == 0) return view;
  struct {
    uint64_t magic;
    uint32_t version, size, park, thread_count, piece_count, descriptor_count;
    uint64_t segment_address, segment_length;
    uint32_t unmovable, unused;
  } head;
  static_assert(offsetof(Control, unmovable) == offsetof(decltype(head), unmovable));
  if (auto r = memory.read(address, &head, sizeof head); !r) return r.error();
  if (head.magic != kControlMagic || head.version != kControlVersion || head.size != sizeof(Control) ||
      head.thread_count > kControlThreads || head.piece_count > kControlPieces ||
      head.descriptor_count > kControlDescriptors)
    return make_error(std::errc::bad_message, "the program runs with the wrapper of another version of godwit");
  view.address = address;
  view.segment_address = head.segment_address;
  view.segment_length = head.segment_length;
  view.unmovable = head.unmovable;
  if (auto r = read_list(memory, address + offsetof(Control, threads), head.thread_count, view.threads); !r)
    return r.error();
  if (auto r = read_list(memory, address + offsetof(Control, pieces), head.piece_count, view.pieces); !r)
    return r.error();
  if (auto r = read_list(memory, address + offsetof(Control, descriptors), head.descriptor_count, view.descriptors); !r)
    return r.error();
  return view;
}

Result<void> set_park(const Memory& memory, uint64_t address, uint32_t value) {
  if (address == 0) return {};
  return memory.write(address + offsetof(Control, park), &value, sizeof value);
}

}  // namespace godwit::migrate
