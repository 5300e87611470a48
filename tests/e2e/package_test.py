#!/usr/bin/env python3
"""What is installed can be used under any prefix, also when it was moved: a program finds it by CMake and by pkg-config,
is built, and runs.

usage: package_test.py SOURCE_DIRECTORY      (the build: $GODWIT_BUILD)
"""
import os
import subprocess
import sys
import tempfile

SOURCE = os.path.join(sys.argv[1], "tests", "e2e", "package")
BUILD = os.environ["GODWIT_BUILD"]
EXPECTED = '("task", 42, 3.5) done no space named \'no such space\'; godwit spaces lists them, --create makes one\n'


def run(*words, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, **options)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
    return done.stdout


def says_what_it_should(program, prefix, home):
    """The library finds the godwit that was installed with it."""
    environment = {**os.environ, "GODWIT_HOME": home, "LD_LIBRARY_PATH": library_folder(prefix)}
    environment.pop("GODWIT_EXECUTABLE", None)
    try:
        said = run(program, env=environment)
        assert said == EXPECTED, said
    finally:
        run(os.path.join(prefix, "bin", "godwit"), "node", "--stop", "--discard", env=environment)


def library_folder(prefix):
    (folder,) = [at for at, _, files in os.walk(prefix) if "libgodwit-tuplespace.so" in files]
    return folder


with tempfile.TemporaryDirectory(prefix="godwit-package-") as here:
    prefix, built = os.path.join(here, "prefix"), os.path.join(here, "build")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    run("cmake", "-S", SOURCE, "-B", built, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", built)
    says_what_it_should(os.path.join(built, "consumer"), prefix, os.path.join(here, "home1"))
    by_hand, elsewhere = os.path.join(here, "by_hand"), os.path.join(here, "elsewhere")
    os.rename(prefix, elsewhere)
    prefix = elsewhere
    flags = run("pkg-config", "--cflags", "--libs", "godwit",
                env={**os.environ, "PKG_CONFIG_PATH": os.path.join(library_folder(prefix), "pkgconfig")}).split()
    run("c++", "-O1", os.path.join(SOURCE, "consumer.cc"), "-o", by_hand, *flags)
    says_what_it_should(by_hand, prefix, os.path.join(here, "home2"))
print("found by CMake and by pkg-config")
