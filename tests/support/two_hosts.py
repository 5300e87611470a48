"""Two hosts with a wrapped stream_end on each, for a test in another language: what stdin says is done, a line each, and
answered by a line.

    server|client WORD...       told to that program; its answer
    move server|client a|b      "ok", or why not
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../demos/support"))
from hosts import Hosts, build_directory  # noqa: E402

GODWIT, STREAM_END = (os.path.join(build_directory(), name) for name in ("godwit", "stream_end"))


def start(host, name, role):
    pod = host.popen(GODWIT, "run", "--name", name, "--", STREAM_END, role, "7000", stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, text=True)
    assert pod.stdout.readline() == "ready\n"
    return pod


def move(hosts, pod, to):
    done = hosts.a.run(GODWIT, "move", pod, to, check=False)
    return "ok" if done.returncode == 0 or "already" in done.stderr else done.stderr.strip()


with Hosts() as hosts:
    pods = {"server": start(hosts.a, "server", "serve"), "client": start(hosts.b, "client", "connect")}
    print("ready", flush=True)
    for line in sys.stdin:
        who, *words = line.split()
        if who == "move":
            print(move(hosts, *words), flush=True)
            continue
        pods[who].stdin.write(" ".join(words) + "\n")
        pods[who].stdin.flush()
        print(pods[who].stdout.readline().strip(), flush=True)
