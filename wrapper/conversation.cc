#include "wrapper/conversation.hh"

#include <cstring>

namespace godwit::wrapper {
namespace {

constexpr size_t kNews = 256 << 10;  // bytes of frames in one answer, about

// Numbers of 64 bits, little endian; text with its length before it.
class Writer {
 public:
  Writer& add(uint64_t value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& add(std::string_view text) {
    add(text.size());
    bytes_ += text;
    return *this;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  uint64_t number() {
    uint64_t value = 0;
    std::string_view bytes = cut(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::string text() { return std::string(cut(number())); }
  template <class T>
  Result<T> whole(T value) const {
    if (!good_ || !rest_.empty()) return make_error(std::errc::bad_message, "a malformed word of a conversation");
    return value;
  }
  bool good() const { return good_; }

 private:
  std::string_view cut(uint64_t size) {
    good_ = good_ && size <= rest_.size();
    std::string_view part = rest_.substr(0, good_ ? size : 0);
    rest_.remove_prefix(part.size());
    return part;
  }
  std::string_view rest_;
  bool good_ = true;
};

}  // namespace

void Console::say(std::string frame) {
  bytes_ += frame.size();
  said_.push_back(std::move(frame));
}

void Console::heard(uint64_t count) {
  while (first_ < count && !said_.empty()) drop_oldest();
}

void Console::drop_oldest() {
  bytes_ -= said_.front().size();
  said_.pop_front();
  ++first_;
}

void Console::leave() {
  attached = false;
  heard(~uint64_t{0});
}

bool Console::has_news(const Ask& ask) const {
  return words_taken > ask.word || input_taken > ask.input_at || first_ + said_.size() > ask.heard;
}

News Console::news(const Ask& ask) const {
  News news{ask.serial, words_taken, input_taken, first_, ""};
  for (const std::string& frame : said_) {
    if (!news.frames.empty() && news.frames.size() + frame.size() > kNews) break;
    news.frames += frame;
  }
  return news;
}

std::string encode(const Ask& ask) {
  Writer out;
  out.add(ask.serial).add(ask.heard).add(ask.word).add(ask.words).add(ask.input_at).add(ask.input);
  return out.add(uint64_t{ask.input_ended}).take();
}

Result<Ask> decode_ask(std::string_view bytes) {
  Reader in(bytes);
  Ask ask;
  ask.serial = in.number();
  ask.heard = in.number();
  ask.word = in.number();
  ask.words = in.text();
  ask.input_at = in.number();
  ask.input = in.text();
  ask.input_ended = in.number();
  return in.whole(std::move(ask));
}

std::string encode(const News& news) {
  Writer out;
  out.add(news.serial).add(news.words_taken).add(news.input_taken).add(news.first).add(news.frames);
  return out.take();
}

Result<News> decode_news(std::string_view bytes) {
  Reader in(bytes);
  News news;
  news.serial = in.number();
  news.words_taken = in.number();
  news.input_taken = in.number();
  news.first = in.number();
  news.frames = in.text();
  return in.whole(std::move(news));
}

std::string encode(const Console& console) {
  Writer out;
  out.add(uint64_t{console.attached}).add(console.words_taken).add(console.input_taken).add(console.input);
  out.add(uint64_t{console.input_ended}).add(uint64_t{console.output_closed[0]}).add(uint64_t{console.output_closed[1]});
  out.add(console.first_).add(console.said_.size());
  for (const std::string& frame : console.said_) out.add(frame);
  return out.take();
}

Result<Console> decode_console(std::string_view bytes) {
  Reader in(bytes);
  Console console;
  console.attached = in.number();
  console.words_taken = in.number();
  console.input_taken = in.number();
  console.input = in.text();
  console.input_ended = in.number();
  for (bool& closed : console.output_closed) closed = in.number();
  console.first_ = in.number();
  for (uint64_t left = in.number(); left > 0 && in.good(); --left) console.say(in.text());
  return in.whole(std::move(console));
}

uint64_t serial_of(std::string_view bytes) { return Reader(bytes).number(); }

}  // namespace godwit::wrapper
