#include "tuplespace/node/replica.hh"

#include "tuplespace/fault.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

constexpr auto kPollTime = std::chrono::seconds(10);      // a fetch is parked so long
constexpr auto kFetchPatience = std::chrono::seconds(30);
constexpr auto kFetchPause = std::chrono::milliseconds(200);
constexpr auto kSaveDelay = std::chrono::milliseconds(200);
constexpr size_t kFetchBytes = size_t{1} << 20;
constexpr uint64_t kTrimEvery = 256;  // batches

Error first_is_away(const std::string& address) {
  return make_error(std::errc::host_unreachable, "the community's first node, " + address +
                                                     ", does not answer; start it and try again (traffic goes on)");
}

Packed pack_outcome(uint64_t index, const Outcome& outcome) {
  return pack_map("index", index, "code", outcome.code, "what", outcome.what, "result", Bin{outcome.result});
}

bool read_outcome(const Fields& fields, uint64_t& index, Outcome& outcome) {
  Bin result;
  if (fields.need("index", index, "code", outcome.code, "what", outcome.what, "result", result)) return false;
  outcome.result = result.data;
  return true;
}

}  // namespace

Replica::Replica(Loop& loop, RpcServer& server, Peers& peers, const Home& home)
    : loop_(loop), server_(server), peers_(peers), home_(home) {
  serve();
}

Replica::~Replica() {
  *alive_ = false;
  loop_.cancel(save_timer_);
  for (auto& [id, parked] : parked_) loop_.cancel(parked.expiry);
}

void Replica::serve() {
  server_.serve("directory.submit", [this](const auto& params, Reply reply) { on_submit(params, reply); },
                Retry::kRepeated);  // the log's sessions make a repetition harmless
  server_.serve("directory.fetch", [this](const auto& params, Reply reply) { on_fetch(params, reply); },
                Retry::kRepeated);
}

Result<void> Replica::open_as_first(uint64_t community) {
  community_ = community;
  auto folder = home_.folder("directory");
  if (!folder) return folder.error();
  auto post = [this](std::function<void()> work) { loop_.post(std::move(work)); };
  auto recovered = LocalLog::open(*folder, post);
  if (!recovered) return recovered.error();
  if (!recovered->snapshot.empty())
    if (auto installed = directory_.install(recovered->snapshot); !installed) return installed.error();
  for (const auto& entry : recovered->entries) directory_.apply(entry.index, entry.batch);
  trimmed_ = recovered->snapshot_index;
  log_ = std::move(recovered->log);
  log_->on_commit([this](const CommandLog::Entry& entry) { on_committed(entry); });
  return {};
}

Result<void> Replica::open_as_follower(uint64_t community, std::string address) {
  community_ = community;
  first_address_ = std::move(address);
  auto text = read_file(home_.file("directory.snapshot"));
  if (!text) return text.error().code == std::errc::no_such_file_or_directory ? Result<void>{} : text.error();
  return directory_.install(*text);
}

void Replica::join(const HostEntry& self, std::function<void(Result<void>)> callback, Deadline deadline) {
  session_ = self.incarnation;
  if (!is_first() && !fetching_) fetch();
  submit(host_joined(self), [callback](Result<Packed> result) {
    callback(result ? Result<void>{} : result.error());
  }, deadline);
}

CommandId Replica::next_id() {
  uint64_t sequence = next_sequence_++;
  unsettled_[sequence] = true;
  return {session_, sequence, unsettled_.begin()->first};
}

void Replica::submit(DirectoryCommand command, Submitted callback, Deadline deadline) {
  CommandId id = next_id();
  submit_as(id, std::move(command), [this, id, callback = std::move(callback)](Result<Packed> result) {
    settled(id.sequence);
    callback(std::move(result));
  }, deadline);
}

void Replica::submit_as(CommandId id, DirectoryCommand command, Submitted callback, Deadline deadline) {
  if (!is_first()) return submit_remotely(id, std::move(command), std::move(callback), deadline);
  enqueue(pack_command(id, command), id, [callback](Result<Outcome> outcome) {
    callback(outcome ? outcome->as_result() : Result<Packed>(outcome.error()));
  });
}

void Replica::read_barrier(std::function<void(Result<void>)> callback, Deadline deadline) {
  submit(nothing(), [callback](Result<Packed> result) {
    callback(result ? Result<void>{} : result.error());
  }, deadline);
}

// ---- the first node

void Replica::enqueue(Packed command, CommandId id, OutcomeCallback callback) {
  waiting_.emplace(std::pair(id.session, id.sequence), std::move(callback));
  gathering_.emplace_back(id, std::move(command));
  flush();
}

// One batch is on its way to the disk at a time; meanwhile the next one gathers.
void Replica::flush() {
  if (appending_ || gathering_.empty()) return;
  appending_ = true;
  std::vector<CommandId> ids;
  std::vector<Packed> commands;
  for (auto& [id, command] : gathering_) {
    ids.push_back(id);
    commands.push_back(std::move(command));
  }
  gathering_.clear();
  log_->append(pack_batch(commands), [this, ids = std::move(ids)](Result<uint64_t> index) {
    on_batch_settled(std::move(index), ids);
  });
}

void Replica::on_batch_settled(Result<uint64_t> index, std::vector<CommandId> ids) {
  appending_ = false;
  if (!index)
    for (const auto& id : ids) settle(id, index.error());
  trim_when_long();
  flush();
}

void Replica::on_committed(const CommandLog::Entry& entry) {
  auto applied = directory_.apply(entry.index, entry.batch);
  GODWIT_FAULT_POINT("directory.applied.before_answer");
  for (auto& [id, outcome] : applied) settle(id, std::move(outcome));
  wake_parked();
}

void Replica::settle(const CommandId& id, Result<Outcome> outcome) {
  auto [first, last] = waiting_.equal_range(std::pair(id.session, id.sequence));
  std::vector<OutcomeCallback> callbacks;
  for (auto it = first; it != last; ++it) callbacks.push_back(std::move(it->second));
  waiting_.erase(first, last);
  for (auto& callback : callbacks) callback(outcome);
}

void Replica::on_submit(const msgpack::object& params, Reply reply) {
  Fields fields(params);
  CommandId id;
  uint64_t community = 0;
  std::string op;
  msgpack::object args;
  if (auto bad = fields.need("community", community, "session", id.session, "sequence", id.sequence, "floor",
                             id.floor, "op", op, "args", args))
    return reply.fail(*bad);
  if (!is_first() || community != community_)
    return reply.fail(make_error(std::errc::operation_not_permitted,
                                 "this is not the first node of that community; see its node.conf"));
  enqueue(pack_command(id, {op, pack(args)}), id, [this, reply](Result<Outcome> outcome) {
    if (!outcome) return reply.fail(outcome.error());
    GODWIT_FAULT_POINT("directory.submit.before_reply");
    reply.send(pack_outcome(directory_.applied(), *outcome));
  });
}

void Replica::on_fetch(const msgpack::object& params, Reply reply) {
  uint64_t community = 0, after = 0;
  if (auto bad = Fields(params).need("community", community, "after", after)) return reply.fail(*bad);
  if (!is_first() || community != community_)
    return reply.fail(make_error(std::errc::operation_not_permitted,
                                 "this is not the first node of that community; see its node.conf"));
  if (after != directory_.applied()) return reply.send(fetched(after));
  uint64_t id = next_parked_++;
  auto expiry = loop_.after(kPollTime, [this, id, after] {
    auto parked = parked_.extract(id);
    parked.mapped().reply.send(fetched(after));
  });
  parked_.emplace(id, Parked{reply, expiry});
}

// Batches after `after`, or a snapshot for who is too far behind, or ahead: of a log that this disk lost.
Packed Replica::fetched(uint64_t after) const {
  auto entries = log_->read(after + 1, kFetchBytes);
  if (after > directory_.applied() || (entries.empty() && after < directory_.applied())) {
    Packed snapshot = directory_.snapshot();
    return pack_map("snapshot", Bin{snapshot});
  }
  Packer packer;
  packer.map(2).add("first").add(after + 1).add("batches").array(entries.size());
  for (const auto& entry : entries) packer.add(Bin{entry.batch});
  return packer.take();
}

void Replica::wake_parked() {
  auto parked = std::exchange(parked_, {});
  for (auto& [id, fetch] : parked) {
    loop_.cancel(fetch.expiry);
    fetch.reply.send(fetched(directory_.applied() - 1));
  }
}

void Replica::trim_when_long() {
  if (directory_.applied() < trimmed_ + kTrimEvery) return;
  trimmed_ = directory_.applied();
  log_->trim(trimmed_, directory_.snapshot());
}

// ---- the followers

void Replica::first_is_back(std::string address) {
  first_address_ = std::move(address);
  if (fetching_) fetch();
}

// A newer fetch takes the place of an older one, whose answer is then ignored.
void Replica::fetch() {
  fetching_ = true;
  uint64_t generation = ++fetch_generation_;
  peers_.call_address(first_address_, "directory.fetch",
                      pack_map("community", community_, "after", directory_.applied()),
                      [this, alive = alive_, generation](Answer answer) {
                        if (*alive && generation == fetch_generation_) on_fetched(std::move(answer));
                      },
                      in_time(kFetchPatience));
}

// A malformed or refused answer is asked for again after a pause.
void Replica::on_fetched(Answer answer) {
  bool good = answer.has_value() && take_batches(Fields(answer->get()));
  if (good) return fetch();
  loop_.after(kFetchPause, [this, alive = alive_, generation = fetch_generation_] {
    if (*alive && generation == fetch_generation_) fetch();
  });
}

bool Replica::take_batches(const Fields& fields) {
  if (auto snapshot = fields.get<Bin>("snapshot")) {
    if (!directory_.install(snapshot->data)) return false;
    save_soon();
    return run_waiters(), true;
  }
  uint64_t index = 0;
  std::vector<Bin> batches;
  if (fields.need("first", index, "batches", batches)) return false;
  for (const auto& batch : batches) {
    if (index == directory_.applied() + 1) directory_.apply(index, batch.data);
    ++index;
  }
  GODWIT_FAULT_POINT("directory.applied.follower");
  if (!batches.empty()) save_soon();
  run_waiters();
  return true;
}

void Replica::submit_remotely(CommandId id, DirectoryCommand command, Submitted callback, Deadline deadline) {
  auto on_answer = [this, alive = alive_, callback = std::move(callback)](Answer answer) {
    if (!*alive) return;
    if (!answer)
      return callback(answer.error().code == std::errc::timed_out ? first_is_away(first_address_) : answer.error());
    uint64_t index = 0;
    Outcome outcome;
    if (!read_outcome(Fields(answer->get()), index, outcome))
      return callback(make_error(std::errc::bad_message, "the first node's answer is malformed"));
    when_applied(index, [callback, outcome] { callback(outcome.as_result()); });
  };
  peers_.call_address(first_address_, "directory.submit",
                      pack_map("community", community_, "session", id.session, "sequence", id.sequence, "floor",
                               id.floor, "op", command.op, "args", Raw{command.args}),
                      std::move(on_answer), deadline);
}

void Replica::when_applied(uint64_t index, std::function<void()> callback) {
  if (directory_.applied() >= index) return callback();
  waiters_.push_back({index, std::move(callback)});
}

void Replica::run_waiters() {
  std::vector<Waiter> ready;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (it->index > directory_.applied()) {
      ++it;
      continue;
    }
    ready.push_back(std::move(*it));
    it = waiters_.erase(it);
  }
  for (auto& waiter : ready) waiter.callback();
}

void Replica::save_soon() {
  if (save_timer_) return;
  save_timer_ = loop_.after(kSaveDelay, [this] { save(); });
}

// Lost writes cost a follower a longer fetch, nothing else.
void Replica::save() {
  loop_.cancel(std::exchange(save_timer_, 0));
  if (is_first()) return;
  if (auto saved = replace_file(home_.file("directory.snapshot"), directory_.snapshot(), Durable::kNo); !saved)
    std::fprintf(stderr, "godwit node: %s\n", saved.error().message().c_str());
}

}  // namespace godwit
