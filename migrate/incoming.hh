// A pod that comes to this host.
#pragma once
#include <atomic>
#include <future>
#include <thread>

#include "migrate/arrival.hh"
#include "migrate/move_channel.hh"
#include "migrate/pieces.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/streams/service.hh"

namespace godwit::migrate {

/// What a restarted node must know of a copy that is complete, kept in pods/NAME/arrival from before the commit on.
struct ArrivalRecord {
  uint64_t pod = 0;
  uint64_t epoch = 0;       // before the move
  std::string source;       // host
  Places places;
  std::map<uint64_t, bool> existing;  // by the source's offset: pieces that a program of this host uses too
  std::vector<SocketNote> notes;
  std::string captured;
};
std::string encode(const ArrivalRecord& record);
Result<ArrivalRecord> decode_record(std::string_view bytes);

class Incoming {
 public:
  struct Plan {
    uint64_t pod = 0;
    uint64_t epoch = 0;
    std::string name, source, spec;
    std::vector<SocketNote> notes;
  };
  /// In the loop's thread, as all that follows but what run() does.
  /// on_end: the thread is done; may destroy this.
  static Result<std::unique_ptr<Incoming>> create(Node& node, Plan plan, std::string* endpoint,
                                                  std::function<void()> on_end);
  ~Incoming();

  uint64_t epoch() const { return record_.epoch; }
  /// The directory has spoken.
  void committed();
  void cancelled();
  /// The source's node has died or has begun anew: nothing more will come.
  void abandoned();
  const std::string& source() const { return record_.source; }

 private:
  enum class Decision { kGo, kThrowAway };
  struct NewEnd {
    UniqueFd ours, theirs[2];  // theirs by side
  };

  Incoming(Node& node, Plan plan, std::function<void()> on_end);
  void run();
  Result<void> build(std::unique_ptr<Arrival>& arrival);
  ArrivalHost host();
  Result<Spawned> spawn(const SpawnRequest& request);
  Result<uint64_t> place(const ControlPiece& piece);
  Result<uint64_t> place_socket(const ControlPiece& piece);
  Result<UniqueFd> placeholder(Role role, const ControlPiece& piece);
  Result<UniqueFd> new_end(const SocketNote& note, uint32_t side);
  Result<void> put();
  void show(std::string state);
  void doubt();
  void decide(Decision decision);
  void throw_away();
  const SocketNote* note_of(uint64_t offset) const;

  Node& node_;
  StreamService& service_;
  Plan plan_;
  ArrivalRecord record_;
  std::function<void()> on_end_;
  std::unique_ptr<MoveChannel> channel_;
  uint32_t member_ = 0;
  UniqueFd segment_file_;
  MadePod made_;
  std::map<uint64_t, NewEnd> ends_;  // by the source's offset
  std::promise<Decision> decision_;
  std::atomic<bool> decided_{false};
  Loop::TimerId doubt_timer_ = 0;
  std::thread thread_;
};

/// The commit's consequences on the target: the pod's ends are its own here. `ends`: our placeholders of connections
/// to elsewhere, by the source's offset. Before the program goes on; then introduce() the rest.
Result<void> take_over(StreamService& service, const ArrivalRecord& record);
/// The opposite: nothing of the copy that was to come stays.
void forget_places(StreamService& service, const ArrivalRecord& record);
void introduce(StreamService& service, const ArrivalRecord& record, std::map<uint64_t, UniqueFd> ends);

}  // namespace godwit::migrate
