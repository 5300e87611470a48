// The copy of a program on the target, while it is being built: a restoree that is emptied and then
// becomes the program, by system calls injected into it.
//
//   copy_space.cc        address space, memory, pieces of the segment
//   copy_descriptors.cc  descriptors
//   copy_threads.cc      threads, credentials, registers, group stop
#pragma once
#include <map>
#include <memory>
#include <set>

#include "migrate/arrival.hh"
#include "migrate/protocol.hh"
#include "migrate/remote.hh"
#include "migrate/threads.hh"

namespace godwit::migrate {

class Copy {
 public:
  Copy(Image image, const ArrivalHost& host) : image_(std::move(image)), host_(host) {}

  // ---- building, in this order
  Result<void> start(const SpawnRequest& request);
  Result<void> build_space();
  Result<void> build_process();
  Result<void> build_descriptors();
  Result<void> build_threads();
  Result<void> hold();  // group stop: from here on our death leaves the copy stopped, or dead while unfinished

  // ---- following the source
  Result<void> write_memory(const MemoryPart& part);
  Result<void> change_layout(const std::vector<MappingChange>& changes);

  // ---- the end
  Result<void> finish(const Final& final);
  void resume();
  void kill();
  void leave();

  pid_t pid() const { return pid_; }
  const Image& image() const { return image_; }
  const std::vector<ControlPiece>& pieces() const { return pieces_; }
  bool foreign_vdso() const { return foreign_vdso_; }

 private:
  // space
  Result<void> empty_space();
  Result<void> settle_vdso(uint64_t start, uint64_t end, uint64_t text);
  Result<void> move_vdso(uint64_t& start, uint64_t& end, uint64_t to);
  Result<void> keep_control_socket();
  Result<void> map_files_and_memory(const std::vector<Mapping>& mappings);
  Result<void> map_segment();
  Result<void> map_piece(Batch& batch, size_t index);
  Result<void> change_pieces(const std::vector<ControlPiece>& now);
  Result<void> set_memory_layout(uint64_t brk, bool with_executable);
  Result<void> tell_control();
  uint64_t free_range(uint64_t length) const;
  // descriptors
  Result<int> give(int fd);
  Result<void> install(long there, const Descriptor& d);
  Result<void> make_descriptor(const Descriptor& d);
  Result<void> make_file(const Descriptor& d);
  Result<void> make_pipe_end(const Descriptor& d);
  Result<void> make_timer(const Descriptor& d, bool existing);
  Result<void> fill_pipe(int end, const Descriptor& d);
  Result<void> fill_epoll(const Descriptor& d);
  Result<void> change_epoll(const Descriptor& before, const Descriptor& now);
  Result<void> update_in_place(const Descriptor& before, const Descriptor& now);
  Result<void> change_descriptors(const Final& final);
  Result<long> epoll_control(uint32_t epoll, int operation, const EpollItem& item);
  // threads
  Result<void> add_thread(const ThreadImage& thread);
  Result<void> furnish_thread(const ThreadImage& thread, pid_t outer);
  Result<void> remove_thread(uint32_t tid);
  Result<void> take_credentials(Remote& remote);
  bool credentials_differ() const;
  Result<void> change_threads(const Final& final);
  Result<void> send_pending(const Final& final);
  Result<void> arm_timers(const Final& final);
  Result<void> return_to_group_stop(pid_t outer);
  Result<void> clear_traces();
  std::vector<pid_t> outer_tids() const;

  Image image_;
  const ArrivalHost& host_;
  pid_t pid_ = 0;
  UniqueFd control_;
  int control_there_ = -1, segment_there_ = -1;
  Memory memory_;
  Remote remote_;
  std::unique_ptr<Batch> batch_;
  uint64_t scratch_ = 0;
  uint64_t vdso_start_ = 0, vdso_end_ = 0, vdso_text_ = 0;
  bool foreign_vdso_ = false, complete_ = false;
  std::vector<ControlPiece> pieces_;               // offset: of this host
  std::map<uint32_t, Descriptor> descriptors_;     // as built
  std::map<uint64_t, std::pair<int, int>> pipes_;  // by the source's inode: numbers of the two ends, kept aside
  std::vector<std::pair<uint32_t, pid_t>> threads_;  // tid in the pod, outer tid; the leader first
};

}  // namespace godwit::migrate
