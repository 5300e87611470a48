// What the parts of the supervisor share: one thread, one poll loop.
#pragma once
#include <chrono>
#include <list>
#include <string>
#include <vector>

#include "wrapper/control_channel.hh"
#include "wrapper/conversation.hh"
#include "wrapper/supervisor.hh"

namespace godwit::wrapper {

struct SupervisorClient {
  UniqueFd fd;
  std::string in, out;
  UniqueFd pass;        // descriptor that goes with the first byte of `out`
  bool closing = false, dead = false;
};

struct StandardPipes {
  UniqueFd in_read, in_write, out_read[2], out_write[2];
};

class Supervisor {
 public:
  explicit Supervisor(SupervisorPlan plan) : plan_(std::move(plan)) {}
  int run();

 private:
  using Client = SupervisorClient;
  using Clock = std::chrono::steady_clock;

  // supervisor.cc
  Result<void> prepare();
  Result<void> listen_control();
  void loop();
  void poll_once();

  // supervisor_program.cc
  Result<void> start_init();
  void map_user(pid_t init);
  void become_init(StandardPipes& pipes, int go);
  Result<void> write_pod_file();
  void handle_child();
  void handle_report();
  void handle_started();
  void ready();
  void failed(int status, const std::string& text);
  void pod_ended();
  void send_signal(int sig, bool group);

  // supervisor_clients.cc
  void accept_client();
  void read_client(Client& client);
  void handle(Client& client, FrameKind kind, const std::string& payload);
  void queue(Client& client, FrameKind kind, const std::string& payload);
  void flush(Client& client);
  void forget_dead();
  void finish_clients();
  std::string facts() const;

  // supervisor_console.cc
  bool throttled() const;
  bool foreground_silent() const;
  int patience() const;
  void converse();
  bool take_words();
  bool take_input();
  void say(FrameKind kind, const std::string& payload);
  void tell_end();
  void foreground_left();
  void read_output(int stream);
  void feed_input();
  void close_output(int stream);
  void hold(uint64_t pod, Client& client);
  void take_input_back();
  void take(const std::string& held, Client& client);

  SupervisorPlan plan_;
  std::list<Client> clients_;
  StandardPipes pipes_;
  UniqueFd control_, signals_, report_, started_, log_, program_, restoree_;
  UniqueFd pod_file_;  // its lock, see pod_files.hh
  UniqueFd starting_;  // until the program runs, see SupervisorPlan
  std::vector<int> inherited_;
  Console console_;
  Client* foreground_ = nullptr;  // while it is on this host and has come with the pod
  Client* asker_ = nullptr;       // waits for the answer to ask_
  Ask ask_;
  Clock::time_point heard_;       // the last ask
  pid_t init_ = 0, program_pid_ = 0;
  int restoree_number_ = -1;  // arrival: of its end of the control socket pair, in it
  uint64_t namespace_ = 0;
  int exec_error_ = 0, broken_ = 0, status_ = -1;
  bool announced_ = false, held_ = false, departed_ = false, pod_over_ = false, end_told_ = false, done_ = false;
  bool detached_ = false;
};

void set_nonblocking(int fd);
/// Replaces what the file says. A link is not followed.
bool write_file(const std::string& path, const std::string& text);

}  // namespace godwit::wrapper
