"""Prints why lock.txt cannot be installed with the Python that runs this; nothing if it can be.

Looks before a gigabyte is downloaded. Any Python from 3.6 on runs it, to say that it is too old.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

PYTHONS = ("3.11", "3.12", "3.13")  # for which TensorFlow has wheels, as check_wheels.py sees
MACHINES = ("Linux x86_64", "Linux aarch64", "Darwin arm64")
GLIBC = (2, 28)  # the latest that a wheel asks for
COMPILED = {"3.13": "editdistance"}  # Python -> the package that has no wheel for it
VENV_BYTES, DOWNLOADED_BYTES = 4.0e9, 1.1e9


def fault() -> str:
    """Returns what is wrong; what to do. An empty text if nothing is wrong."""
    python = "{}.{}".format(*sys.version_info)
    machine = f"{platform.system()} {platform.machine()}"
    if python not in PYTHONS:
        return (
            f"Python {python} will not do, it must be 3.11, 3.12 or 3.13; install one (sudo dnf "
            "install python3.13, brew install python@3.13, conda create -n welm python=3.13) and "
            "type PYTHON=python3.13 sh requirements/install.sh"
        )
    if machine not in MACHINES or sys.maxsize < 2**32:
        return f"TensorFlow has no wheel for {machine}; take one of {', '.join(MACHINES)}"
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:
        return "TensorFlow has no wheel for this kind of Python; take the usual CPython"
    if platform.system() == "Linux" and _glibc() < GLIBC:
        return "TensorFlow needs glibc 2.28 or later; take Debian 10, Ubuntu 20.04 or later"
    return _venv_fault(python) or _compiler_fault(python) or _room_fault()


def _glibc() -> tuple:
    try:
        return tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2]))
    except (AttributeError, OSError, ValueError):  # another C library, such as musl
        return (0, 0)


def _venv_fault(python: str) -> str:
    try:
        import ensurepip  # noqa: F401  (Debian keeps it in a package apart)
        import venv  # noqa: F401
    except ImportError:
        return f"Python {python} has no venv; type sudo apt install python{python}-venv"
    if os.path.exists(".venv/pyvenv.cfg"):
        with open(".venv/pyvenv.cfg", encoding="utf-8") as lines:
            made_by = re.search(r"^version\w* *= *(\d+\.\d+)", lines.read(), re.M)
        if made_by and made_by.group(1) != python:
            return f".venv is of Python {made_by.group(1)}, not {python}; type rm -r .venv first"
    return ""


def _compiler_fault(python: str) -> str:
    if python not in COMPILED:
        return ""
    compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    headers = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not shutil.which(compiler[0]):
        lacking = f"there is no C++ compiler ({compiler[0]})"
    elif not os.path.exists(headers):
        lacking = f"Python's headers are missing ({headers})"
    else:
        line = [*compiler, "-fsyntax-only", "-x", "c++", "-"]
        done = subprocess.run(line, input=b"#include <cstddef>", stderr=subprocess.DEVNULL)
        if not done.returncode:
            return ""
        lacking = f"{compiler[0]} cannot compile C++"
    return (
        f"Python {python} has to compile {COMPILED[python]}, and {lacking}; type sudo apt install "
        f"g++ python{python}-dev (macOS: xcode-select --install; conda: conda install cxx-compiler)"
    )


def _room_fault() -> str:
    if os.path.exists(".venv"):  # which takes its room already
        return ""
    here, passing = os.getcwd(), tempfile.gettempdir()
    is_shared = os.stat(here).st_dev == os.stat(passing).st_dev
    for place, needed, other in (
        (here, VENV_BYTES + is_shared * DOWNLOADED_BYTES, "clone onto another disk"),
        (passing, DOWNLOADED_BYTES, "set TMPDIR to another folder"),
    ):
        free = shutil.disk_usage(place).free
        if free < needed:
            sizes = f"{free / 1e9:.1f} GB of room, and {needed / 1e9:.1f} GB are needed"
            return f"{place} has {sizes}; make room there, or {other}"
    return ""


if __name__ == "__main__":
    print(fault())
