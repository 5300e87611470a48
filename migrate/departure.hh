// The source's side of a move.
//
//   open       may this program be moved at all?
//   survey     describes it while it runs; each thread pauses alone for a look, all of them together
//              once, for about a millisecond
//   precopy    has the target build a stopped copy, sends memory until little is left
//   freeze     stops every thread, outside of every section of the segment
//   hand_over  sends what only a frozen program can give; the target's copy is then complete
//   then one of
//     discard  the commit said that the target has the program: this copy is killed
//     thaw     the program goes on here as if nothing had happened; from any state, any number of times
//     leave    nobody knows yet: this copy stays stopped, for adopt.hh to continue or kill
//
// Between freeze and one of these three the program is in group stop, also when this process dies.
// After an error of survey, precopy, freeze or hand_over: thaw(). If the error is
// errc::resource_unavailable_try_again the program has changed in a way that only another survey can
// take up: make a new Departure and try again.
//
// All calls of one Departure are made from the thread that called open (ptrace is that thread's), which
// must live as long as the Departure. A thread that is killed by the program's own doing, or new threads,
// mappings and descriptors between survey and freeze, are followed.
//
// Known limit: the calls that read alternate stacks and the like run in the program's own threads, in the
// survey and for threads that are born after it; this process being killed within those (some 10
// microseconds each) kills the program.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "migrate/channel.hh"
#include "migrate/control_view.hh"
#include "migrate/descriptors.hh"
#include "migrate/dirty.hh"
#include "migrate/image.hh"
#include "migrate/maps.hh"
#include "migrate/threads.hh"

namespace godwit::migrate {

struct DepartureFigures {
  double longest_pause_ms = 0;  // of one thread, in the survey
  double stop_ms = 0, run_out_ms = 0, check_ms = 0, state_ms = 0, memory_ms = 0, answer_ms = 0;
  uint64_t sent_bytes = 0, last_bytes = 0;  // before the freeze; in it
  int rounds = 0;
};

class Departure {
 public:
  /// root     outer PID of the program: child of the pod's pid 1 and its only other process.
  /// control  address of its Control; 0 if it is not wrapped.
  /// errors   errc::operation_not_supported with the reason why it cannot be moved; device_or_resource_busy while it
  ///          has children.
  static Result<std::unique_ptr<Departure>> open(pid_t root, uint64_t control);
  /// Why open() or survey() would refuse just now; empty: they would not, as far as can be told without stopping anything.
  static std::string reason_not_to_move(pid_t root, uint64_t control);
  /// A frozen program that was neither discarded nor left is thawed.
  ~Departure();

  Result<void> survey();
  /// Precondition: survey. deadline: for the whole of it.
  Result<void> precopy(Channel& channel, Deadline deadline);
  /// Precondition: precopy.
  Result<void> freeze(Deadline deadline);
  /// Precondition: freeze. `extra` is the caller's and goes to the caller of Arrival::run.
  Result<void> hand_over(Channel& channel, std::string extra, Deadline deadline);
  void thaw();
  void leave();
  /// `before_kill` runs when nothing can hold the copy back any more: the caller zeroes alive words in it.
  void discard(const std::function<void()>& before_kill);

  const Image& image() const { return image_; }
  /// As it was at the freeze: pieces and descriptors then. Empty before.
  const ControlView& control() const { return control_; }
  const DepartureFigures& figures() const { return figures_; }

 private:
  Departure(pid_t pid, uint64_t control) : pid_(pid), control_address_(control), memory_(pid) {}
  Result<void> check_movable();
  Result<void> check_process();
  Result<void> survey_descriptors();
  Result<void> look_again(const std::function<Result<void>(const ControlView&)>& look);
  bool has_company(std::string_view status) const;
  Result<void> describe_address_space();
  Result<void> describe_process();
  Result<void> describe_threads();
  Result<ThreadImage> describe_thread(Traced& thread, bool leader);
  Result<void> ask_leader(Traced& leader, Remote& remote);
  Result<void> read_actions(Remote& remote, uint64_t scratch);
  Result<void> while_stopped(const std::function<Result<void>()>& look);
  Result<void> start_tracking();
  Result<void> arm_tracking();
  Result<void> track_new_mappings();
  Result<void> copy_running(Channel& channel, Deadline deadline);
  Result<void> copy_frozen(Channel& channel, std::string extra, Deadline deadline);
  Result<void> answer_clock(Channel& channel, Deadline deadline);
  Result<void> send_round(Channel& channel, bool last, uint64_t& bytes);
  Result<void> collect(bool last, std::vector<MappingChange>& layout, Changes& changes);
  Result<void> make_anew(const Mapping& mapping, std::vector<MappingChange>& layout);
  Result<bool> update_layout(std::vector<MappingChange>& changes);
  void track(const Mapping& mapping);
  bool tracked(const Mapping& mapping) const;
  Result<void> name_threads();
  Result<void> run_out(Deadline deadline);
  Result<void> leave_section(Traced& thread, uint64_t inside_address, Deadline deadline);
  Result<void> leave_vdso(Traced& thread, Deadline deadline);
  Result<void> check_unchanged();
  Result<Final> make_final();
  Result<ThreadImage> describe_late(Traced& thread);
  std::vector<pid_t> outer_tids() const;

  pid_t pid_;
  uint64_t control_address_;
  Memory memory_;
  uint64_t syscall_ = 0;  // address of a syscall instruction in the program
  Image image_;
  ControlView control_;
  SegmentMark segment_;
  std::vector<Mapping> mappings_;  // as the target knows them
  std::string layout_text_;
  std::map<uint64_t, uint64_t> tracked_;  // start -> end
  uint64_t untracked_ = 0;                // bytes of the last round's fresh mappings
  int tracking_pauses_ = 0;
  std::optional<DirtyTracker> tracker_;
  DescriptorSurvey descriptors_;
  UniqueFd status_, maps_;
  std::map<pid_t, uint32_t> tids_;        // outer -> in the pod
  std::map<uint32_t, long> calls_;        // by tid: what a restart_syscall of it stands for
  std::array<IntervalTimer, 3> timers_{};
  Clock::time_point surveyed_;
  bool foreign_vdso_ = false;

  std::vector<Traced> threads_;
  bool frozen_ = false;
  DepartureFigures figures_;
};

}  // namespace godwit::migrate
