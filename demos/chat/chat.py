#!/usr/bin/python3
"""A participant of a chat: says what it reads from stdin, and prints what is said.

    chat.py KEY NAME
"""
import os
import sys
import threading

import godwit


def print_what_is_said(said):
    try:
        for _, who, text in said:
            print(f"{who}: {text}", flush=True)
    except godwit.GodwitError:
        pass  # we leave


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: chat.py KEY NAME")
    key, name = sys.argv[1:]
    try:
        with godwit.connect(key) as host:
            room = host.space("chat")
            said = room.subscribe("say", str, str)
            threading.Thread(target=print_what_is_said, args=[said], daemon=True).start()
            room.out("say", name, "(has come)")
            for line in sys.stdin:
                room.out("say", name, line.rstrip("\n"))
            room.out("say", name, "(leaves)")
    except (godwit.GodwitError, ValueError) as error:
        sys.exit(f"chat: {error}")


if __name__ == "__main__":
    main()
