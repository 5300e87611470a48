#!/usr/bin/env python3
"""A bag of tasks: the master puts in numbers, workers take them and put in their squares.

    bag.py KEY [WORKERS]
"""
import sys
import threading

import godwit


def work(bag: godwit.Space) -> None:
    while True:
        _, n = bag.in_("task", int)
        if n < 0:
            return
        bag.out("square", n, n * n)


def main() -> None:
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with godwit.connect(sys.argv[1]) as host:
        bag = host.space()
        threads = [threading.Thread(target=work, args=[bag]) for _ in range(workers)]
        for thread in threads:
            thread.start()
        with bag.pipeline() as p:
            for n in range(100):
                p.out("task", n)
        print("sum", sum(bag.in_("square", n, int)[2] for n in range(100)))
        for _ in threads:
            bag.out("task", -1)
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
