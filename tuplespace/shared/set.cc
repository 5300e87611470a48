#include "tuplespace/shared/set.hh"

#include <errno.h>
#include <sys/mman.h>

#include "tuplespace/shared/allocator.hh"

namespace godwit::shared {

int allocate_set(Thread& self, uint64_t pod, Offset* out) {
  Section section(self);
  if (int e = allocate(self, kSetLength, RunKind::kSet, pod, out)) return e;
  Set* set = self.segment.at<Set>(*out);
  madvise(set, kSetLength, MADV_REMOVE);  // zeros, also where no page is yet
  if (reserve(set, kSetHead) != 0) {
    free_intent(self);
    return -ENOSPC;
  }
  set->offset = *out;
  set->pod = pod;
  return 0;
}

}  // namespace godwit::shared
