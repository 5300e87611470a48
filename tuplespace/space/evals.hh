// The space in which the calls of a space wait, and its tuples. docs/decisions/0014 has the reasons.
//
//   ("todo", FUNCTION, ID)                                 for a worker that knows the function, which is that of the first call
//   ("active", ID, FUNCTION, OVERTAKEN, FIELDS, CALLS)     what is to be done, and how often somebody has set out to overtake;
//                                                          kDone: somebody has, and only the todo is left to be taken
//   ("failed", FUNCTION, MESSAGE, FIELDS, CALLS)           put aside
//
// What must stay true: a todo and the active tuple of its ID come and go at one moment. So who has taken a todo finds its active
// tuple, perhaps after a wait for somebody who has that in hand, and who waits for nothing.
#pragma once
#include <limits>
#include <string>

#include "tuplespace/eval.hh"

namespace godwit {

inline constexpr int64_t kDone = -1;
inline constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();  // of IDs, and of times overtaken

struct Active {
  int64_t id = 0;
  std::string function;
  int64_t overtaken = 0;
  Tuple fields, calls;  // as an ActiveTuple's

  Tuple tuple() const;
  Tuple todo() const;
};

/// Under a number of its own: nobody has had it before.
Active active_of(const Tuple& fields, const Tuple& calls);
/// Of a tuple of that shape.
Active active_of(const Tuple& tuple);

/// These throw bad_message: nobody has put that in by eval.
Call first_call(const Active& active);
struct Remaining {
  Tuple fields, calls;
};
/// With this in the place of its first call.
Remaining after_first_call(const Active& active, Field result);

/// From 0 to kLargest.
int64_t random_number();

}  // namespace godwit
