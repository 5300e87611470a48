// A host of the test's own with a log of durable spaces, whose node and whose memory may be lost.
#pragma once
#include <optional>

#include "tests/support/space.hh"
#include "tests/support/temp_folder.hh"
#include "tuplespace/durable/space_log.hh"

namespace godwit::testing {

class DurableHost {
 public:
  explicit DurableHost(const SpaceLog::Options& options = {}) : options_(options) { start(); }

  shared::Segment& segment() { return segment_->segment(); }
  std::string folder() const { return home_.path() + "/spaces"; }
  std::string log() const { return folder() + "/wal.00000000000000000001"; }
  SpaceLog& space_log() { return *log_; }
  const Error& error() const { return *error_; }

  /// False: the node does not start; error() says why.
  bool start() {
    if (!segment_) segment_.emplace();
    auto opened = SpaceLog::open(folder(), segment(), options_);
    error_ = opened ? std::nullopt : std::optional(opened.error());
    if (opened) log_ = std::move(*opened);
    return opened.has_value();
  }
  void stop() { log_.reset(); }
  void lose_memory() { segment_.reset(); }
  void restart_node() {
    stop();
    EXPECT_TRUE(start());
  }
  void restart() {
    stop();
    lose_memory();
    EXPECT_TRUE(start());
  }

  Store create(const char* name, bool durable) { return Store::create(segment(), name, {.durable = durable}).value(); }
  Store open(const char* name) { return Store::open(segment(), name).value(); }
  /// Its tuples, oldest first; nullopt: there is no such space.
  std::optional<std::vector<std::string>> tuples(const char* name) {
    auto store = Store::open(segment(), name);
    if (!store) return std::nullopt;
    auto all = store->all({});
    EXPECT_TRUE(all.has_value());
    std::vector<std::string> texts;
    for (const Tuple& tuple : *all) texts.push_back(to_text(tuple));
    return texts;
  }

 private:
  test::TempFolder home_;
  SpaceLog::Options options_;
  std::optional<TestSegment> segment_;
  std::unique_ptr<SpaceLog> log_;
  std::optional<Error> error_;
};

}  // namespace godwit::testing
