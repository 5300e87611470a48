#!/usr/bin/env python3
"""A queue whose workers may crash: a job that was not acknowledged comes to another worker.

    jobs.py KEY
"""
import sys

import godwit


def main() -> None:
    with godwit.connect(sys.argv[1]) as host:
        queue = host.space()
        for n in range(10):
            queue.out("job", n)
        deliveries = 0
        while True:
            try:
                with queue.lease("job", int, seconds=60, timeout=0) as (_, n):
                    deliveries += 1
                    if deliveries % 3 == 0:
                        raise RuntimeError("this worker crashes")
                    with host.transaction() as t:
                        t.of(queue).out("done", n)
            except RuntimeError:
                continue  # the job is back
            except godwit.TimedOut:
                break     # there is none left
        print("done", sorted(n for _, n in queue.all("done", int)), "in", deliveries, "deliveries")
        for n in range(10):
            queue.in_("done", n)


if __name__ == "__main__":
    main()
