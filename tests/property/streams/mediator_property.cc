// Whatever writer, reader and mediator do in whatever order: every byte of a stream is taken by one of reader and mediator,
// in order, and stands at the offset that it had. The model is a deque.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <deque>
#include <thread>

#include "tests/support/program.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

using testing::Pod;
using testing::ProgramEnd;
using testing::ProgramListener;
using testing::TestSegment;

constexpr uint16_t kPort = 8080;

enum class Step { kWrite, kRead, kIn, kOut, kOutElsewhere };

// Both directions of one connection between two programs.
class Run {
 public:
  void step(Step step, uint32_t ring, uint64_t n) {
    ProgramEnd& writer = ring ? server_ : client_;
    ProgramEnd& reader = ring ? client_ : server_;
    std::deque<char>& unread = unread_[ring];
    switch (step) {
      case Step::kWrite: {
        uint64_t written = writer.write_some(fresh(n));
        return came(ring, next_, written);
      }
      case Step::kRead: return went(ring, reader.read_some(n));
      case Step::kIn: {
        Template wanted{"stream", client_.name(), direction(ring), AnyFormal{}, AnyFormal{}};
        auto taken = mediator_.inp(TemplateViews(wanted));
        RC_ASSERT(taken.has_value() == !unread.empty());
        if (!taken) return;
        RC_ASSERT(*(*taken)[3].get<int64_t>() == static_cast<int64_t>(end_[ring] - unread.size()));
        RC_ASSERT((*taken)[4].get<Bytes>()->data.size() == unread.size());
        return went(ring, (*taken)[4].get<Bytes>()->data);
      }
      case Step::kOut: {
        bool fits = n <= shared::kRing - unread.size();
        auto put = out(ring, end_[ring], fresh(n));
        RC_ASSERT(put.has_value() == fits);
        return came(ring, next_, fits ? n : 0);
      }
      case Step::kOutElsewhere: {
        auto put = out(ring, end_[ring] + n, fresh(n));
        RC_ASSERT(put.error().code == std::errc::invalid_argument);
        RC_ASSERT(put.error().what.find(" ends at " + std::to_string(end_[ring]) + ";") != std::string::npos);
      }
    }
  }

 private:
  static std::string direction(uint32_t ring) { return ring ? "s>c" : "c>s"; }
  const std::string& fresh(uint64_t n) {
    next_.clear();
    while (next_.size() < n) next_ += static_cast<char>(++count_ * 2654435761 >> 13);
    return next_;
  }
  void came(uint32_t ring, const std::string& bytes, uint64_t n) {
    unread_[ring].insert(unread_[ring].end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    end_[ring] += n;
  }
  void went(uint32_t ring, const std::string& bytes) {
    std::deque<char>& unread = unread_[ring];
    RC_ASSERT(bytes.size() <= unread.size());
    RC_ASSERT(std::equal(bytes.begin(), bytes.end(), unread.begin()));
    unread.erase(unread.begin(), unread.begin() + static_cast<ptrdiff_t>(bytes.size()));
  }
  Result<void> out(uint32_t ring, uint64_t offset, const std::string& bytes) {
    Tuple tuple{"stream", client_.name(), direction(ring), static_cast<int64_t>(offset), Bytes{bytes}};
    return mediator_.out(views_of(tuple), std::chrono::steady_clock::now());
  }

  TestSegment test_;
  Pod client_pod_{test_, 7}, server_pod_{test_, 8};
  ProgramListener listener_{server_pod_, kPort};
  ProgramEnd client_{client_pod_, kPort};
  ProgramEnd server_{server_pod_, listener_};
  StreamMediator mediator_{client_pod_.host};
  std::deque<char> unread_[2];
  uint64_t end_[2] = {0, 0};
  std::string next_;
  uint64_t count_ = 0;
};

RC_GTEST_PROP(StreamMediator, TakesAndPutsAsADequeDoes, ()) {
  auto amount = rc::gen::oneOf(rc::gen::inRange<uint64_t>(1, 100), rc::gen::inRange<uint64_t>(1, shared::kRing + 1));
  auto step = rc::gen::tuple(rc::gen::element(Step::kWrite, Step::kRead, Step::kIn, Step::kOut, Step::kOutElsewhere),
                             rc::gen::inRange<uint32_t>(0, 2), amount);
  auto steps = *rc::gen::container<std::vector<std::tuple<Step, uint32_t, uint64_t>>>(step);
  Run run;
  for (auto [what, ring, n] : steps) run.step(what, ring, n);
}

// The same at full speed: numbers that a program writes are read by the other program or taken by the mediator.
TEST(StreamMediator, EveryNumberHasOneTaker) {
  constexpr uint32_t kNumbers = 400000;
  TestSegment test;
  Pod client(test, 7), server(test, 8);
  ProgramListener listener(server, kPort);
  ProgramEnd asks(client, kPort), answers(server, listener);
  std::atomic<bool> begun = false, read_all = false;
  auto note = [](std::vector<uint32_t>& all, const std::string& bytes) {
    ASSERT_EQ(bytes.size() % 4, 0u);
    size_t old = all.size();
    all.resize(old + bytes.size() / 4);
    memcpy(&all[old], bytes.data(), bytes.size());
  };
  std::vector<uint32_t> read, taken;
  std::thread writer([&] {
    std::vector<uint32_t> block;
    for (uint32_t i = 0; i < kNumbers; i += static_cast<uint32_t>(block.size())) {
      block.resize(std::min<uint32_t>(kNumbers - i, 1 + i % 997));
      for (uint32_t k = 0; k < block.size(); ++k) block[k] = i + k;
      asks.write({reinterpret_cast<const char*>(block.data()), block.size() * 4});
    }
    asks.finish();
  });
  std::thread reader([&] {
    begun.wait(false);  // the mediator's thread may come late
    for (std::string bytes; !(bytes = answers.read(4000)).empty();) note(read, bytes);
    read_all = true;
  });
  std::thread mediator([&] {
    shared::Thread self = test.join();
    StreamMediator mediator(self);
    Template wanted{"stream", AnyFormal{}, "c>s", AnyFormal{}, AnyFormal{}};
    while (!read_all) {
      auto one = mediator.inp(TemplateViews(wanted));
      if (!one) continue;
      note(taken, (*one)[4].get<Bytes>()->data);
      begun = true;
      begun.notify_one();
    }
    shared::release_slot(self);
  });
  writer.join(), reader.join(), mediator.join();
  EXPECT_TRUE(std::is_sorted(read.begin(), read.end()));
  EXPECT_TRUE(std::is_sorted(taken.begin(), taken.end()));
  std::vector<uint32_t> all;
  std::merge(read.begin(), read.end(), taken.begin(), taken.end(), std::back_inserter(all));
  ASSERT_EQ(all.size(), kNumbers);
  for (uint32_t i = 0; i < kNumbers; ++i) ASSERT_EQ(all[i], i);
  printf("%zu read, %zu taken\n", read.size(), taken.size());
  EXPECT_GT(taken.size(), 0u);
}

}  // namespace
}  // namespace godwit
