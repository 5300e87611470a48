// Memory goes over while the program runs on, in rounds, until what is left is small.
#include "migrate/departure_parts.hh"

#include <sys/mman.h>

#include <algorithm>

#include "migrate/proc.hh"
#include "migrate/protocol.hh"
#include "tuplespace/fault.hh"

namespace godwit::migrate {

namespace {

constexpr uint64_t kSmallEnough = 256 << 10;  // bytes left to send in the blackout
constexpr uint64_t kTrackFrom = 1 << 20;      // bytes of new mappings that are worth a short stop
constexpr int kMaxRounds = 12;

}  // namespace

// Every private mapping, whatever its protection: mappings that differ in being tracked do not merge, and
// a program that takes its own mprotect back expects its mapping to be one again (mremap fails on two).
void Departure::track(const Mapping& m) {
  if (!m.shared() && tracker_->track(m)) tracked_[m.start] = std::max(tracked_[m.start], m.end);
}

bool Departure::tracked(const Mapping& m) const {
  auto after = tracked_.lower_bound(m.end);
  return after != tracked_.begin() && std::prev(after)->second > m.start;
}

namespace {
// A mapping without access is tracked but not armed: reserves may be huge, and nobody writes to them.
bool armed(const Mapping& m) { return m.protection != PROT_NONE; }

}  // namespace

// Registering with a list of mappings that is out of date would cut mappings in two, which a program can
// notice: the list is read and used while the program stands still, for about a millisecond.
Result<void> Departure::start_tracking() {
  GODWIT_FAULT_POINT("move.source.tracking");
  std::vector<Mapping> flagged = std::move(mappings_);  // of smaps, read while the program ran
  layout_text_ = private_lines(read_again(maps_.get()), segment_);
  Layout now = parse_layout(layout_text_, segment_);
  if (!now.refusal.empty()) return cannot_move("it " + now.refusal);
  mappings_ = std::move(now.mappings);
  for (Mapping& m : mappings_) {
    auto same = std::lower_bound(flagged.begin(), flagged.end(), m.start, [](const Mapping& f, uint64_t start) { return f.start < start; });
    if (same != flagged.end() && same->start == m.start && same->end == m.end) m.flags = same->flags;
    track(m);
  }
  return {};
}

// Pages are armed before their contents are listed: what is written in between is listed twice.
Result<void> Departure::arm_tracking() {
  Changes ignored;
  for (const Mapping& m : mappings_) {
    if (!tracked(m) || !armed(m)) continue;
    auto done = tracker_->list_written(m, ignored);
    if (!done) return done.error();  // false: unmapped since, which the next round finds
  }
  return {};
}

Result<void> Departure::while_stopped(const std::function<Result<void>()>& look) {
  frozen_ = true;
  auto start = Clock::now();
  auto done = stop_process(pid_, threads_, start + std::chrono::seconds(5));
  if (done) done = name_threads();
  if (done) done = look();
  thaw();
  figures_.longest_pause_ms = std::max(figures_.longest_pause_ms, ms_since(start));
  return done;
}

namespace {
// The program's clocks are the host's, shifted by its time namespace.
ProgramClock clock_of(pid_t pid) {
  auto now = [](clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
  };
  auto shift = [](std::string_view text, const char* label) {
    long long seconds = 0, nanoseconds = 0;
    std::sscanf(std::string(line_after(text, label)).c_str(), "%lld %lld", &seconds, &nanoseconds);
    return seconds * 1'000'000'000ll + nanoseconds;
  };
  // timens_offsets shows the namespace of children, which for the pod's program is its own.
  std::string program = read_text(proc_path(pid, "timens_offsets")), own = read_text("/proc/self/timens_offsets");
  return {now(CLOCK_MONOTONIC) + shift(program, "monotonic") - shift(own, "monotonic"),
          now(CLOCK_BOOTTIME) + shift(program, "boottime") - shift(own, "boottime")};
}
}  // namespace

Result<void> Departure::answer_clock(Channel& channel, Deadline deadline) {
  if (auto r = expect(channel, Message::kClockRequest, deadline); !r) return r.error();
  ProgramClock clock = clock_of(pid_);
  return channel.send(tagged(Message::kClock, plain_bytes(clock)));
}

Result<void> Departure::precopy(Channel& channel, Deadline deadline) {
  return explained(channel, copy_running(channel, deadline));
}

Result<void> Departure::copy_running(Channel& channel, Deadline deadline) {
  image_.mappings = mappings_;
  if (auto r = channel.send(tagged(Message::kImage, encode(image_))); !r) return r;
  if (auto r = answer_clock(channel, deadline); !r) return r;

  Changes all;
  for (const Mapping& m : mappings_)
    if (!m.shared())
      if (auto r = tracker_->list_contents(m, all); !r) return r;
  if (auto r = send_memory(channel, memory_, all, true); !r) return r;
  figures_.sent_bytes = all.bytes;
  if (GODWIT_FAULT_ERROR("move.source.first_round")) return injected_fault();

  uint64_t last = all.bytes;
  for (figures_.rounds = 1; figures_.rounds <= kMaxRounds; ++figures_.rounds) {
    uint64_t bytes = 0;
    if (auto r = send_round(channel, false, bytes); !r) return r;
    figures_.sent_bytes += bytes;
    if (bytes < kSmallEnough || bytes > last / 10 * 9) break;  // little is left, or it will not get less
    last = bytes;
    if (Clock::now() > deadline) return make_error(std::errc::timed_out, "copying memory");
  }
  if (auto r = channel.send(tagged(Message::kPrecopied)); !r) return r;
  auto answer = expect(channel, Message::kBuilt, deadline);
  if (!answer) return answer.error();
  auto built = plain_value<Built>(*answer);
  if (!built) return built.error();
  foreign_vdso_ = built->foreign_vdso;
  // While the target was building, more was written; one short round makes up for it.
  uint64_t bytes = 0;
  if (auto r = send_round(channel, false, bytes); !r) return r;
  figures_.sent_bytes += bytes;
  if (GODWIT_FAULT_ERROR("move.source.precopied")) return injected_fault();
  return {};
}

Result<void> Departure::send_round(Channel& channel, bool last, uint64_t& bytes) {
  std::vector<MappingChange> layout;
  Changes changes;
  if (auto r = collect(last, layout, changes); !r) return r;
  bytes = changes.bytes;
  if (untracked_ > kTrackFrom && !last && tracking_pauses_++ < kMaxRounds)
    if (auto r = track_new_mappings(); !r) return r;
  if (!layout.empty())
    if (auto r = channel.send(encode_layout(layout)); !r) return r;
  return send_memory(channel, memory_, changes, !last);
}

// True when the list of mappings differs from the target's; `changes` then says how.
Result<bool> Departure::update_layout(std::vector<MappingChange>& changes) {
  std::string text = private_lines(read_again(maps_.get()), segment_);
  if (text == layout_text_) return false;
  Layout now = parse_layout(text, segment_);
  if (!now.refusal.empty()) return cannot_move("it " + now.refusal);
  changes = changes_between(mappings_, now.mappings);
  std::vector<Mapping> made;
  for (const MappingChange& c : changes)
    if (c.kind == MappingChange::kMap) made.push_back(c.mapping);
  if (auto r = identify_files(made); !r) return r.error();
  size_t next = 0;
  for (MappingChange& c : changes)
    if (c.kind == MappingChange::kMap) c.mapping = made[next++];
  mappings_ = std::move(now.mappings);
  layout_text_ = std::move(text);
  return true;
}

// New mappings that are worth it are tracked too. They were listed as fresh in this round; being armed only
// now they show as written in the next.
Result<void> Departure::track_new_mappings() {
  return while_stopped([&]() -> Result<void> {
    Layout now = parse_layout(private_lines(read_again(maps_.get()), segment_), segment_);
    for (const Mapping& m : now.mappings)
      track(m);  // all of them: what is tracked and what is not must never share an allocation
    return {};
  });
}

// What the target needs to be where the program is now. A mapping that is not tracked although it should
// be is a new one, or was moved: the target makes it anew, and gets all of it.
Result<void> Departure::collect(bool last, std::vector<MappingChange>& layout, Changes& changes) {
  untracked_ = 0;
  auto different = update_layout(layout);
  if (!different) return different.error();
  auto touched = [&](const Mapping& m) {
    return std::any_of(layout.begin(), layout.end(), [&](const MappingChange& c) {
      return c.kind != MappingChange::kUnmap && m.start <= c.mapping.start && c.mapping.end <= m.end;
    });
  };
  for (const Mapping& m : mappings_) {
    if (m.shared()) {
      if (last && m.anonymous())
        if (auto r = tracker_->list_contents(m, changes); !r) return r;
      continue;
    }
    if (tracked(m)) {
      if (!armed(m) && !touched(m)) continue;
      auto known = tracker_->list_written(m, changes);
      if (!known) return known.error();
      if (*known) continue;
    }
    if (auto r = make_anew(m, layout); !r) return r;
    if (auto r = tracker_->list_contents(m, changes); !r) return r;
    untracked_ += m.end - m.start;
  }
  return {};
}

// In place of what `layout` does to parts of the mapping.
Result<void> Departure::make_anew(const Mapping& m, std::vector<MappingChange>& layout) {
  std::vector<Mapping> again{m};
  if (auto r = identify_files(again); !r) return r;
  std::erase_if(layout, [&](const MappingChange& c) {
    return c.kind != MappingChange::kUnmap && m.start <= c.mapping.start && c.mapping.end <= m.end;
  });
  layout.push_back({MappingChange::kUnmap, m});
  layout.push_back({MappingChange::kMap, again[0]});
  return {};
}

}  // namespace godwit::migrate
