#!/usr/bin/env python3
"""docs/tutorial.md and docs/reference.md are right: with what is installed, programs are built and every command prints what is shown.

Blocks of the pages, by their kind:
  cpp, cmake   of the tutorial: quotations of docs/tutorial/ or demos/; of the reference: declarations of the public headers
  usage        of commands: the lines that godwit help has for each; a row of a table says what each option is
  sh           is run, and must succeed
  console      commands behind "$ ", and what they print
sh and console of a page are run in one shell, from top to bottom.

usage: pages_test.py SOURCE_DIRECTORY PAGE      (the build: $GODWIT_BUILD)
"""
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap

ROOT, PAGE = sys.argv[1:]
DOCS = os.path.join(ROOT, "docs")
BUILD = os.environ["GODWIT_BUILD"]
END = "-- end of a command --"


def texts_in(*folders):
    for folder in folders:
        for at, _, files in os.walk(os.path.join(ROOT, folder)):
            for name in files:
                if name.endswith((".cc", ".hh", "CMakeLists.txt")):
                    with open(os.path.join(at, name)) as file:
                        yield file.read()


def page():
    with open(os.path.join(DOCS, PAGE)) as file:
        return file.read()


def blocks():
    return re.findall(r"^```(\w+)\n(.*?)^```$", page(), re.M | re.S)


def is_quoted(block):
    """From a program, whole lines, indented as there or not."""
    text = textwrap.dedent(block)
    return any("\n" + textwrap.indent(text, " " * depth) in "\n" + source
               for source in texts_in("docs/tutorial", "demos") for depth in range(0, 9, 2))


def is_declared(block):
    """Line by line, wherever the headers break theirs."""
    headers = " ".join(" ".join(texts_in("tuplespace/include")).split())
    return all(line in headers for line in block.splitlines())


def is_right(block):
    return is_declared(block) if PAGE == "reference.md" else is_quoted(block)


def check_usage(block, printed_help):
    """Of each command of the block, all of its usage and no more; every option of its help has a row on the page."""
    lines = block.splitlines()
    for command in dict.fromkeys(line.split()[1] for line in lines):
        printed = printed_help(command)
        usage = re.sub("^(usage:|      ) ", "", printed.partition("\n\n")[0], flags=re.M).splitlines()
        assert [line for line in lines if line.split()[1] == command] == usage, f"{block}\n{printed}"
        missing = [option for option in re.findall("--[a-z-]+", printed) if f"\n| `{option}" not in page()]
        assert not missing, f"of godwit {command} in no table: {missing}"


def commands(block):
    """The commands of a console block, with what each prints."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


class Shell:
    def __init__(self, folder, environment):
        self.process = subprocess.Popen(["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def run(self, command):
        """What it prints, and its status."""
        self.process.stdin.write(f"{command.rstrip()}\necho '{END}' $?\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            before, end, status = line.partition(END)
            printed += before
            if end:
                return printed, int(status)
        raise AssertionError(f"the shell has ended: {printed}")


def show_difference(command, expected, printed):
    return f"$ {command}\n" + "\n".join(difflib.unified_diff(expected.splitlines(), printed.splitlines(), "the page", "printed", lineterm=""))


def go_through(shell):
    for kind, block in blocks():
        if kind in ("cpp", "cmake"):
            assert is_right(block), f"in no source:\n{block}"
        elif kind == "usage":
            check_usage(block, lambda command: shell.run("godwit help " + command)[0])
        elif kind == "sh":
            for command in block.splitlines():
                printed, status = shell.run(command)
                assert status == 0, f"$ {command}\n{printed}"
        else:
            assert kind == "console", kind
            for command, expected in commands(block):
                printed, _ = shell.run(command)
                assert printed == expected, show_difference(command, expected, printed)


def library_folder(prefix):
    (folder,) = [at for at, _, files in os.walk(prefix) if "libgodwit-tuplespace.so" in files]
    return folder


def install(prefix):
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)


def environment(prefix, home):
    """As that of somebody who has installed it where the system looks."""
    library = library_folder(prefix)
    own = {"GODWIT_HOME": home, "PATH": f"{prefix}/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": library,
           "CMAKE_PREFIX_PATH": prefix, "PKG_CONFIG_PATH": os.path.join(library, "pkgconfig")}
    return {key: value for key, value in os.environ.items() if key != "GODWIT_EXECUTABLE"} | own


with tempfile.TemporaryDirectory(prefix="godwit-pages-") as here:
    prefix, copy = os.path.join(here, "prefix"), os.path.join(here, "tutorial")
    install(prefix)
    shutil.copytree(os.path.join(DOCS, "tutorial"), copy)
    shell = Shell(copy, environment(prefix, os.path.join(here, "home")))
    try:
        go_through(shell)
    finally:
        shell.run("godwit node --stop --discard")
        shell.process.communicate("")
print("every block of the page is as it says")
