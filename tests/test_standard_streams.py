"""Output that nobody reads, that does not fit, or that an encoding lacks: with real commands."""

import os
import subprocess
import sys

import pytest

from welm_jax import flags

HELP = [sys.executable, "-m", "welm_jax.launch", "--help"]


def run(line, **streams):
    done = subprocess.run(line, stderr=subprocess.PIPE, **streams)
    return done.returncode, done.stderr.decode()


def test_a_pipe_that_nobody_reads_is_not_an_error():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(HELP, stdout=writing) == (0, "")
    finally:
        os.close(writing)


CLOSED = """
import os, sys
from welm_jax.failures import run_door

def command(_):
    print("lost")
    print(os.open(os.devnull, os.O_RDONLY) > 2, file=sys.stderr)

sys.exit(run_door(command, [], "welm"))
"""


def test_no_file_is_opened_in_the_place_of_output_that_is_closed():
    line = ["sh", "-c", 'exec "$0" -c "$1" <&- >&-', sys.executable, CLOSED]
    assert run(line) == (0, "True\n")


def test_output_that_does_not_fit_on_a_disk_is_for_a_person_to_look_at():
    with open("/dev/full", "wb") as full:
        status, said = run(HELP, stdout=full)
    assert status == 70
    assert said == (
        "welm: error: standard output is cut: [Errno 28] No space left on device; make room or "
        "look at the disk, then start again\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_console_without_chinese_gets_escapes(encoding):
    line = [*HELP[:-1], "generate", "--help"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    shown = subprocess.check_output(line, env=environment).decode(encoding)
    assert r"--prompt \u4e2d\u56fd" in shown


LOCALE_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
READ = "import sys; from welm_jax import flags; print(ascii(flags.text(sys.argv[1])))"


@pytest.mark.parametrize("environment", [{}, LOCALE_C], ids=["any", "C"])
def test_a_prompt_in_utf_8_is_read_in_every_locale(environment):
    line = [sys.executable, "-c", READ, "却说".encode()]
    shown = subprocess.check_output(line, env=os.environ | environment)
    assert shown == b"'\\u5374\\u8bf4'\n"


def test_a_prompt_that_is_not_text_is_refused_with_the_name_of_the_locale():
    line = [*HELP[:-1], "generate", "--run_dir", "nowhere", "--prompt", "中国经济".encode("gbk")]
    status, said = run(line, env=os.environ | {"LC_ALL": "zh_CN.GBK"}, stdout=subprocess.PIPE)
    assert status == 2
    assert said == (
        "welm: error: argument --prompt: its bytes are not UTF-8, nor text in your locale "
        "(LC_ALL=zh_CN.GBK, which Python reads as utf-8); give it in UTF-8; "
        "welm generate --help tells more\n"
    )


def test_text_stays_as_it_is():
    assert flags.text("却说 café") == "却说 café"
