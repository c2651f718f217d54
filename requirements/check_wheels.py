"""Prints which packages of lock.txt have no wheel for a Python and a machine of ours.

    .venv/bin/python requirements/check_wheels.py

Asks the index that pip is set to which files there are, in some minutes. Downloads none of them but
the sources of packages without a wheel, which are pure if they hold nothing to compile. Ends with
status 0 if each package has a file with a hash of the lock and none but check_python.COMPILED is
compiled.
"""

import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from check_python import COMPILED, GLIBC, MACHINES, PYTHONS
from pip._internal.commands import create_command
from pip._internal.models.link import Link
from pip._internal.models.target_python import TargetPython
from pip._internal.network.session import PipSession
from pip._vendor.packaging.requirements import Requirement

LOCK = Path(__file__).with_name("lock.txt")
MACOS = (12, 0)  # the latest that a wheel asks for
TO_COMPILE = r"\.(c|cc|cpp|cxx|pyx|rs|go|f|f90|cu)$"


class Locked(NamedTuple):
    """A package of the lock: version and marker, and the hashes of the files that may be taken."""

    requirement: Requirement
    hashes: frozenset[str]


class Found(NamedTuple):
    """What there is of all packages for one Python and machine: the names, by kind of file."""

    wheels: list[str]
    pure: list[str]
    compiled: list[str]
    missing: list[str]


def locked() -> list[Locked]:
    """Returns the packages of the lock."""
    lines = LOCK.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    parts = [line.split("--hash=sha256:") for line in lines if line[:1].isalnum()]
    return [
        Locked(Requirement(words), frozenset(map(str.strip, hashes))) for words, *hashes in parts
    ]


def is_asked(one: Locked, python: str, machine: str) -> bool:
    """Whether the lock wants the package on this Python and machine."""
    system, processor = machine.split()
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": processor,
        "platform_python_implementation": "CPython",
        "platform_system": system,
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": system.lower(),
    }
    return not one.requirement.marker or one.requirement.marker.evaluate(environment)


def platforms(machine: str) -> list[str]:
    """Returns the platform tags of the wheels that a machine takes."""
    system, processor = machine.split()
    if system == "Darwin":
        return [f"macosx_{MACOS[0]}_{MACOS[1]}_{processor}"]
    tags = [f"manylinux_{GLIBC[0]}_{minor}_{processor}" for minor in range(GLIBC[1], 4, -1)]
    return [*tags, *(f"manylinux{old}_{processor}" for old in ("2014", "2010", "1"))]


def look(packages: Sequence[Locked], python: str, machine: str) -> Found:
    """Asks the index what there is of each package."""
    command = create_command("install")
    options, _ = command.parse_args(["--quiet"])
    target = TargetPython(
        platforms=platforms(machine),
        py_version_info=tuple(map(int, python.split("."))),
        implementation="cp",
    )
    found = Found([], [], [], [])
    with command.main_context():
        session = command._build_session(options)
        finder = command._build_package_finder(options, session, target)
        for one in packages:
            [version] = one.requirement.specifier
            links = [
                candidate.link
                for candidate in finder.find_all_candidates(one.requirement.name)
                if version.contains(candidate.version) and candidate.link.hash in one.hashes
            ]
            _kind(links, found, session).append(one.requirement.name)
    return found


def _kind(links: Sequence[Link], found: Found, session: PipSession) -> list[str]:
    if any(link.is_wheel for link in links):
        return found.wheels
    for link in links:
        is_pure = not any(re.search(TO_COMPILE, name) for name in _contents(link, session))
        return found.pure if is_pure else found.compiled
    return found.missing


def _contents(link: Link, session: PipSession) -> Iterator[str]:
    """The names of the files in a package's sources."""
    answer = session.get(link.url_without_fragment)
    answer.raise_for_status()
    if link.ext == ".zip":
        return iter(zipfile.ZipFile(io.BytesIO(answer.content)).namelist())
    return iter(tarfile.open(fileobj=io.BytesIO(answer.content)).getnames())


def main() -> int:
    """Prints the table; returns the exit status."""
    packages, faults = locked(), []
    print("| Python | machine | wheels | pure sources | compiled | missing |")
    print("| --- | --- | --- | --- | --- | --- |")
    for python in PYTHONS:
        for machine in MACHINES:
            asked = [one for one in packages if is_asked(one, python, machine)]
            found = look(asked, python, machine)
            names = [", ".join(some) or "-" for some in found[1:]]
            print(
                "|", " | ".join([python, machine, str(len(found.wheels)), *names]), "|", flush=True
            )
            unexpected = {*found.compiled, *found.missing} - {COMPILED.get(python)}
            faults += [f"{name} for Python {python} on {machine}" for name in sorted(unexpected)]
    print(*(f"no wheel of {fault}" for fault in faults), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
