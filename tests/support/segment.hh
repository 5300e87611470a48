// A segment of the test's own, removed with it.
#pragma once
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tuplespace/shared/thread.hh"

namespace godwit::testing {

class TestSegment {
 public:
  explicit TestSegment(uint64_t size = 1ull << 30) {
    static int count = 0;
    name_ = "godwit-test-" + std::to_string(getpid()) + "-" + std::to_string(count++);
    int made = shared::Segment::create(name_.c_str(), size);
    int opened = made ? made : shared::Segment::open(name_.c_str(), &segment_);
    if (opened) {
      ADD_FAILURE() << "segment " << name_ << ": " << made << ", " << opened;
      abort();
    }
  }
  ~TestSegment() { unlink(("/dev/shm/" + name_).c_str()); }
  const std::string& name() const { return name_; }
  shared::Segment& segment() { return segment_; }

  /// A standing for the calling thread in the host's area.
  shared::Thread join() {
    shared::Thread self;
    self.segment = segment_;
    int e = shared::claim_slot(self, segment_.area_of(0));
    EXPECT_EQ(e, 0);
    return self;
  }

 private:
  std::string name_;
  shared::Segment segment_;
};

}  // namespace godwit::testing
