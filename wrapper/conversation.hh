// What a foreground `godwit run` and the supervisor of its pod say to each other. The conversation goes on when the pod
// moves, and when what carries it dies and comes back: a Unix socket on one host, the nodes between two.
//
// The foreground asks: an Ask says what it has heard, and what it has to say. The supervisor answers the latest ask, once,
// as soon as there is news. What must stay true: everything is numbered from the conversation's beginning, is said again
// until the other side has taken it, and is taken once; so an ask or an answer may be lost, doubled or late.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "tuplespace/result.hh"

namespace godwit::wrapper {

struct Ask {
  uint64_t serial = 0;
  uint64_t heard = 0;         // frames of the supervisor that were taken
  uint64_t word = 0;          // number of the first of `words`
  std::string words;          // frames: kSignal, kCloseOutput
  uint64_t input_at = 0;      // bytes of stdin before `input`
  std::string input;
  bool input_ended = false;   // nothing follows it
};

struct News {
  uint64_t serial = 0;        // of the ask that is answered
  uint64_t words_taken = 0, input_taken = 0;
  uint64_t first = 0;         // number of the first of `frames`; above what was heard: those between are lost
  std::string frames;         // kOutput, kError, kExit
};

/// The supervisor's half, which moves with the pod.
class Console {
 public:
  bool attached = false;      // there is a foreground
  uint64_t words_taken = 0, input_taken = 0;
  std::string input;          // taken, and not yet in the program's pipe
  bool input_ended = false;
  bool output_closed[2] = {};

  void say(std::string frame);
  /// What the foreground has heard need not be said again.
  void heard(uint64_t count);
  void drop_oldest();
  void leave();
  bool has_news(const Ask& ask) const;
  News news(const Ask& ask) const;
  size_t unheard() const { return bytes_; }  // bytes

 private:
  friend std::string encode(const Console& console);
  friend Result<Console> decode_console(std::string_view bytes);
  uint64_t first_ = 0;        // number of the first of said_
  std::deque<std::string> said_;
  size_t bytes_ = 0;
};

std::string encode(const Ask& ask);
std::string encode(const News& news);
std::string encode(const Console& console);
Result<Ask> decode_ask(std::string_view bytes);
Result<News> decode_news(std::string_view bytes);
Result<Console> decode_console(std::string_view bytes);
/// Of an encoded Ask or News; for who only carries it.
uint64_t serial_of(std::string_view bytes);

}  // namespace godwit::wrapper
