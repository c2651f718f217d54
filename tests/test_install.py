"""What requirements/install.sh says where it cannot install, to Pythons that pass for others."""

import re
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "dirname")
TRUE, FALSE = shutil.which("true"), shutil.which("false")
CHECK = ROOT / "requirements/check_python.py"

# Runs a script as if by another Python, with modules missing; `-m venv` makes a pip that says what
# it was asked for.
SEEMING = """#!{sh}
if [ "$1" = -m ]; then
    {mkdir} -p .venv/bin
    printf '#!{sh}\\necho pip "$@"\\n' >.venv/bin/pip
    {chmod} +x .venv/bin/pip
    exit
fi
exec {python} -c '
import runpy, shutil, sys, sysconfig, types
shutil.disk_usage = lambda place: types.SimpleNamespace(free=9e9)
sysconfig.get_path = lambda name: "headers"
sys.version_info = ({version}, 0, "final", 0)
sys.modules.update(dict.fromkeys("{missing}".split()))
runpy.run_path(sys.argv[1], run_name="__main__")' "$@"
"""


@pytest.fixture
def clone(tmp_path):
    """A clone in which nothing but the Pythons that a test makes can be found."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers/Python.h").touch()
    for name in ("install.sh", "check_python.py"):
        shutil.copy(ROOT / "requirements" / name, tmp_path / "requirements")
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return tmp_path


def add(clone, name, version, missing=""):
    file = clone / "bin" / name
    paths = {tool: shutil.which(tool) for tool in ("sh", "mkdir", "chmod")}
    values = {"python": sys.executable, "version": version.replace(".", ", "), **paths}
    file.write_text(SEEMING.format(**values, missing=missing))
    file.chmod(0o755)


def installed(clone, **environment):
    """Status, output and error of the command, begun elsewhere than in the clone."""
    line = ["sh", str(clone / "requirements/install.sh")]
    environment = {"PATH": str(clone / "bin"), "CXX": "no-compiler", **environment}
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout, done.stderr


def refused(clone, **environment):
    status, out, err = installed(clone, **environment)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert not (clone / ".venv").exists()
    return err.removeprefix("install.sh: ").rstrip("\n")


@pytest.mark.parametrize("version", ["3.14", "3.10"])
def test_too_new_or_too_old_a_python_is_refused_and_one_that_does_is_named(clone, version):
    add(clone, "python3", version)
    fault = refused(clone)
    assert fault.startswith(f"Python {version} will not do, it must be 3.11, 3.12 or 3.13; install")
    assert fault.endswith("type PYTHON=python3.13 sh requirements/install.sh")
    add(clone, "python3.11", "3.11")
    assert refused(clone) == (
        f"Python {version} will not do, it must be 3.11, 3.12 or 3.13; type the command again with "
        "PYTHON=python3.11 before it: PYTHON=python3.11 sh requirements/install.sh"
    )
    add(clone, "python3.12", "3.12")
    add(clone, "python3.13", "3.13")  # the newest, but for the compiler
    assert "PYTHON=python3.12 before it" in refused(clone)
    assert "PYTHON=python3.13 before it" in refused(clone, CXX=TRUE)


@pytest.mark.parametrize("environment", [{}, {"PYTHON": "my python"}])
def test_a_python_that_is_not_there_is_refused(clone, environment):
    name = environment.get("PYTHON", "python3")
    fault = refused(clone, **environment)
    assert fault.startswith(f"{name} is missing or too old; type sudo apt install python3 ")
    (clone / "bin/python3").symlink_to(FALSE)
    add(clone, "python3.11", "3.11")
    assert refused(clone, **environment).startswith(f"{name} is missing or too old; type the com")


def test_a_python_whose_venv_debian_left_out_is_refused(clone):
    add(clone, "python3", "3.12", missing="ensurepip")
    assert refused(clone) == "Python 3.12 has no venv; type sudo apt install python3.12-venv"


def test_a_python_that_must_compile_is_refused_without_a_compiler(clone):
    add(clone, "python3", "3.13")
    assert refused(clone).startswith(
        "Python 3.13 has to compile editdistance, and there is no C++ compiler (no-compiler); type "
        "sudo apt install g++ python3.13-dev (macOS: xcode-select --install;"
    )
    assert f"and {FALSE} cannot compile C++; type" in refused(clone, CXX=f"{FALSE} -O1")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_python_that_will_do_installs_what_the_lock_names_with_its_hashes(clone, version):
    add(clone, "my python", version)
    status, out, err = installed(clone, PYTHON="my python", CXX=TRUE)
    assert (status, err) == (0, "")
    announced, lock, package = out.splitlines()
    assert announced.startswith("Downloading about 1 GB")
    assert lock == "pip install --require-hashes -r requirements/lock.txt"
    assert package == "pip install --no-deps --no-build-isolation -e ."


def test_an_installation_that_another_python_began_is_refused(clone):
    add(clone, "python3", "3.12")
    (clone / ".venv").mkdir()
    (clone / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    status, out, err = installed(clone)
    assert (status, out) == (2, "")
    assert err == "install.sh: .venv is of Python 3.11, not 3.12; type rm -r .venv first\n"
    (clone / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    assert installed(clone)[0] == 0


GOOD = """
import os, platform, runpy, shutil, sys, sysconfig, tempfile, types
sys.version_info, sys.abiflags = (3, 12, 0), ""
platform.system, platform.machine = lambda: "Linux", lambda: "x86_64"
os.confstr = lambda name: "glibc 2.28"
gigabytes = dict.fromkeys((os.getcwd(), tempfile.gettempdir()), 9)
shutil.disk_usage = lambda place: types.SimpleNamespace(free=gigabytes[place] * 1e9)
"""


@pytest.mark.parametrize(
    ("machine", "fault"),
    [
        ("", ""),
        ("platform.machine = lambda: 'aarch64'", ""),
        ("platform.system, platform.machine = lambda: 'Darwin', lambda: 'arm64'", ""),
        (
            "platform.machine = lambda: 'riscv64'",
            "TensorFlow has no wheel for Linux riscv64; take one of Linux x86_64, Linux aarch64",
        ),
        ("sys.maxsize = 2**31 - 1", "TensorFlow has no wheel for Linux x86_64; take one of Linux"),
        ("sys.abiflags = 't'", "TensorFlow has no wheel for this kind of Python; take the usual"),
        ("sys.implementation.name = 'pypy'", "TensorFlow has no wheel for this kind of Python;"),
        ("os.confstr = lambda _: 'glibc 2.27'", "TensorFlow needs glibc 2.28 or later; take Deb"),
        ("os.confstr = lambda _: None", "TensorFlow needs glibc 2.28 or later; take Debian 10,"),
        (
            "sys.version_info = (3, 13, 0); sysconfig.get_path = lambda name: '/headers'",
            "Python 3.13 has to compile editdistance, and Python's headers are missing (/headers/P",
        ),
        ("gigabytes[os.getcwd()] = 5.2", ""),
        ("gigabytes[os.getcwd()] = 5", "{} has 5.0 GB of room, and 5.1 GB are needed; make room"),
        ("tempfile.gettempdir = lambda: '/dev'; gigabytes |= {os.getcwd(): 4.1, '/dev': 1.2}", ""),
        (
            "tempfile.gettempdir = lambda: '/dev'; gigabytes |= {os.getcwd(): 4.1, '/dev': 1}",
            "/dev has 1.0 GB of room, and 1.1 GB are needed; make room there, or set TMPDIR",
        ),
        ("gigabytes = {}; os.mkdir('.venv')", ""),  # what is installed has its room already
    ],
)
def test_a_machine_without_wheels_or_without_room_is_refused(tmp_path, machine, fault):
    run = f"runpy.run_path({str(CHECK)!r}, run_name='__main__')"
    line = [sys.executable, "-c", "\n".join((GOOD, machine, run))]
    environment = {"CXX": TRUE, "TMPDIR": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(fault.format(tmp_path) or "\n")
    assert done.stdout.count("\n") == 1


def test_the_pythons_that_are_checked_for_are_those_of_readme_and_setup(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "requirements")
    import check_python as check

    readme, setup = ((ROOT / name).read_text() for name in ("README.md", "setup.py"))
    first, *_, last = check.PYTHONS
    assert f"with Python {', '.join(check.PYTHONS[:-1])} or {last}" in " ".join(readme.split())
    major, minor = last.split(".")
    assert f'python_requires=">={first},<{major}.{int(minor) + 1}"' in setup


@pytest.fixture
def wheels(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "requirements")
    return pytest.importorskip("check_wheels")


def test_each_package_of_the_lock_is_read_with_its_marker_and_hashes(wheels):
    packages = wheels.locked()
    lock = (ROOT / "requirements/lock.txt").read_text()
    assert len(packages) == len(re.findall("^[a-z].*==", lock, re.M))
    assert sum(len(one.hashes) for one in packages) == lock.count("--hash=sha256:")
    for python, jax in (("3.11", "0.10.2"), ("3.13", "0.12.0.1")):
        named = [one for one in packages if one.requirement.name == "jax"]
        [asked] = [one for one in named if wheels.is_asked(one, python, "Linux x86_64")]
        assert str(asked.requirement.specifier) == f"=={jax}"


def sources(name, ending):
    """An archive that holds one file of this name."""
    content = BytesIO()
    if ending == ".zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(name, b"")
    else:
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            archive.addfile(tarfile.TarInfo(name))
    return content.getvalue()


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    ("is_wheel", "name", "kind"),
    [
        (True, "it/core.c", "wheels"),
        (False, "it/core.py", "pure"),
        (False, "it/core.c.txt", "pure"),
        (False, "it/core.pyx", "compiled"),
        (False, "it/core.cpp", "compiled"),
        (None, "it", "missing"),
    ],
)
def test_kinds_of_packages_are_told_apart_by_their_files(wheels, ending, is_wheel, name, kind):
    answer = types.SimpleNamespace(content=sources(name, ending), raise_for_status=lambda: None)
    session = types.SimpleNamespace(get=lambda _: answer)
    link = types.SimpleNamespace(is_wheel=is_wheel, ext=ending, url_without_fragment="")
    found = wheels.Found([], [], [], [])
    wheels._kind([] if is_wheel is None else [link], found, session).append("it")
    assert getattr(found, kind) == ["it"]
