// A journal agrees with a vector of strings, whatever is appended, saved, opened anew, torn and refused.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "tests/support/journal.hh"

namespace godwit {
namespace {

using test::TempFolder;
using testing::log_path;
using testing::OpenJournal;
using testing::save;

using Texts = std::vector<std::string>;

enum class Act { kAppend, kAppendMany, kSnapshot, kOpenAnew, kTear, kRefuse };

class Model {
 public:
  explicit Model(Journal::Options options) : options_(options) { open(); }

  void act(Act act) {
    switch (act) {
      case Act::kAppend: return append({any_text()});
      case Act::kAppendMany: return append(*rc::gen::resize(20, rc::gen::container<Texts>(rc::gen::exec([] { return any_text(); }))));
      case Act::kSnapshot: return snapshot();
      case Act::kOpenAnew: return open();
      case Act::kTear: return tear();
      case Act::kRefuse: return refuse();
    }
  }

 private:
  static std::string any_text() {
    size_t length = *rc::gen::oneOf(rc::gen::inRange<size_t>(0, 20), rc::gen::inRange<size_t>(0, 40000));
    return std::string(length, *rc::gen::inRange('a', 'z'));
  }

  void open() {
    open_.reset();
    open_ = std::make_unique<OpenJournal>(folder_.path(), options_);
    RC_ASSERT(open_->journal != nullptr);
    RC_ASSERT(open_->snapshot_at == saved_);
    RC_ASSERT(open_->snapshot == Texts(all_.begin(), all_.begin() + static_cast<ptrdiff_t>(saved_)));
    RC_ASSERT(open_->texts() == Texts(all_.begin() + static_cast<ptrdiff_t>(saved_), all_.end()));
    RC_ASSERT(open_->torn_bytes == torn_);
    RC_ASSERT(open_->journal->durable() == all_.size());
    torn_ = 0;
  }
  void append(const Texts& texts) {
    std::vector<Journal::Appended> appended;
    for (const auto& text : texts) {
      all_.push_back(text);
      appended.push_back(*open_->journal->append(text));
      RC_ASSERT(appended.back().sequence() == all_.size());
    }
    for (const auto& one : appended) RC_ASSERT(open_->journal->wait_durable(one, kForever).has_value());
  }
  void snapshot() {
    saved_ = *rc::gen::inRange<size_t>(saved_, all_.size() + 1);
    RC_ASSERT(save(*open_->journal, saved_, Texts(all_.begin(), all_.begin() + static_cast<ptrdiff_t>(saved_))).has_value());
  }
  // As a host leaves it that has lost its power: with a part of what was being written.
  void tear() {
    open_.reset();
    std::string path = journal::log_files(folder_.path()).rbegin()->second;
    std::string bytes = testing::content(path), rest = any_text();
    if (bytes.empty()) rest.resize(std::min(rest.size(), testing::kJournalHead));  // only its head is written yet
    testing::put_content(path, bytes + rest);
    torn_ = rest.size();
    open();
  }
  void refuse() {
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    rlimit none{1, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &none);
    auto refused = open_->append("refused");
    setrlimit(RLIMIT_FSIZE, &before);
    RC_ASSERT(!refused.has_value());
  }

  Journal::Options options_;
  TempFolder folder_;
  std::unique_ptr<OpenJournal> open_;
  Texts all_;
  size_t saved_ = 0, torn_ = 0;
};

RC_GTEST_PROP(Journal, AgreesWithAVectorOfStrings, ()) {
  auto bytes = rc::gen::element<uint64_t>(1, 1000, 100000);
  Model model({.rotate_bytes = *bytes, .queue_bytes = *bytes});
  auto act = rc::gen::weightedElement<Act>(
      {{4, Act::kAppend}, {4, Act::kAppendMany}, {2, Act::kSnapshot}, {2, Act::kOpenAnew}, {1, Act::kTear}, {1, Act::kRefuse}});
  auto acts = *rc::gen::resize(30, rc::gen::container<std::vector<Act>>(act));  // each of them waits for the disk
  for (Act each : acts) model.act(each);
  model.act(Act::kOpenAnew);
}

}  // namespace
}  // namespace godwit
