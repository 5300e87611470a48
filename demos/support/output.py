"""What the demos in Python print."""
import os
import sys


def say(program, text):
    """A line on stdout, at once. If it cannot be printed the program ends with a line that says so, and status 1."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still in the buffer
        sys.exit(f"{program}: the result cannot be printed: {error.strerror}; see where stdout leads")
