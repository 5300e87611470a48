// The thread keeps the requests as the store's own (store/requests.hh), each with its place in line. It sleeps on one
// bell, for answers and for what the callers want of it.
#include <x86intrin.h>

#include <thread>
#include <unordered_map>

#include "tuplespace/space/requests.hh"
#include "tuplespace/store/store.hh"

namespace godwit {
namespace {

class StoreServer final : public Server {
 public:
  explicit StoreServer(std::shared_ptr<Backend> backend) : backend_(std::move(backend)), store_(*backend_->store()) {}
  ~StoreServer() override {
    thread_.request_stop();
    std::lock_guard guard(lock_);
    if (bell_) ring(*bell_);
  }
  void add(std::shared_ptr<Request> request) override {
    std::lock_guard guard(lock_);
    say({std::move(request), __rdtsc(), nullptr});
  }
  void withdrawn(Request& request) override {
    std::unique_lock guard(lock_);
    uint64_t said = say({nullptr, 0, &request});
    heard_more_.wait(guard, [&] { return heard_ >= said; });
  }

 private:
  // What the thread is to do.
  struct Word {
    std::shared_ptr<Request> added;
    uint64_t ticket;     // when it was
    Request* withdrawn;  // null: none
  };

  uint64_t say(Word word);
  void run(const std::stop_token& stop);
  void serve(store::Requests& mine, const std::stop_token& stop);
  std::vector<Word> take_words();
  void heard(size_t words);
  void obey(const Word& word);
  void begin(const std::shared_ptr<Request>& request, uint64_t ticket);
  std::vector<uint32_t> all_open() const;
  void look_at(uint32_t number);
  void end(uint32_t number);

  std::shared_ptr<Backend> backend_;
  store::Store store_;
  std::mutex lock_;
  std::condition_variable heard_more_;
  std::vector<Word> words_;          // under lock_
  uint64_t said_ = 0, heard_ = 0;    // under lock_: words that were said, and done
  bool runs_ = false;                // under lock_: the thread will look at words_ again
  store::Requests* bell_ = nullptr;  // under lock_: of the thread
  std::unordered_map<uint32_t, std::shared_ptr<Request>> open_;  // the thread's, by number
  std::unordered_map<const Request*, uint32_t> numbers_;         // the thread's
  std::jthread thread_;
};

// Under lock_.
uint64_t StoreServer::say(Word word) {
  words_.push_back(std::move(word));
  if (bell_) ring(*bell_);
  if (!std::exchange(runs_, true)) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  return ++said_;
}

void StoreServer::run(const std::stop_token& stop) {
  auto desk = store::Desk::of(store_.segment());
  store::Requests* mine = desk ? store::requests_of(**desk) : nullptr;
  if (mine) return serve(*mine, stop);
  Error error = desk ? make_error(std::errc::no_space_on_device, "no room for requests; take tuples, or drop spaces") : desk.error();
  std::lock_guard guard(lock_);
  for (const Word& word : words_)
    if (word.added) word.added->fail(error);
  words_.clear();
  heard_ = said_;
  runs_ = false;  // the next one tries again
  heard_more_.notify_all();
}

void StoreServer::serve(store::Requests& mine, const std::stop_token& stop) {
  {
    std::lock_guard guard(lock_);
    bell_ = &mine;
  }
  for (bool rung = true; !stop.stop_requested();) {
    uint32_t seen = mine.bell.load();
    auto words = take_words();
    for (const Word& word : words) obey(word);
    heard(words.size());
    for (uint32_t number : rung ? store::answered(mine) : all_open()) look_at(number);
    if (!stop.stop_requested()) rung = await_ring(mine, seen, kForever);
  }
  std::lock_guard guard(lock_);
  bell_ = nullptr;
}

std::vector<StoreServer::Word> StoreServer::take_words() {
  std::lock_guard guard(lock_);
  return std::exchange(words_, {});
}

void StoreServer::heard(size_t words) {
  if (words == 0) return;
  std::lock_guard guard(lock_);
  heard_ += words;
  heard_more_.notify_all();
}

void StoreServer::obey(const Word& word) {
  if (word.added) return begin(word.added, word.ticket);
  auto number = numbers_.find(word.withdrawn);
  if (number == numbers_.end()) return;
  store_.withdraw(number->second);
  end(number->second);
}

void StoreServer::begin(const std::shared_ptr<Request>& request, uint64_t ticket) {
  if (!request->is_open()) return;
  TemplateViews wanted(request->wanted);
  auto number = store_.request(request->takes ? store::Verb::kIn : store::Verb::kRd, wanted, ticket);
  if (!number) return request->fail(number.error());
  open_[*number] = request;
  numbers_[request.get()] = *number;
}

std::vector<uint32_t> StoreServer::all_open() const {
  std::vector<uint32_t> numbers;
  for (const auto& [number, request] : open_) numbers.push_back(number);
  return numbers;
}

void StoreServer::look_at(uint32_t number) {
  auto open = open_.find(number);
  if (open == open_.end()) return;
  auto received = store_.receive(number, [&](TupleView tuple) { return open->second->give(to_tuple(tuple)); });
  if (received && !*received) return;  // not answered yet
  if (!received) open->second->fail(received.error());
  end(number);
}

void StoreServer::end(uint32_t number) {
  auto open = open_.find(number);
  numbers_.erase(open->second.get());
  open_.erase(open);
}

}  // namespace

std::unique_ptr<Server> store_server(std::shared_ptr<Backend> backend) { return std::make_unique<StoreServer>(std::move(backend)); }

}  // namespace godwit
