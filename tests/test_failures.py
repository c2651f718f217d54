import errno

import pytest

from welm_jax.failures import InputError, Preempted, StopAndLook, run_door


@pytest.mark.parametrize(
    ("failure", "status"), [(InputError, 2), (Preempted, 75), (StopAndLook, 70)]
)
def test_a_failure_is_one_line_and_its_status(capsys, failure, status):
    def main(argv):
        raise failure("what; where; next")

    assert run_door(main, ["x"], "welm") == status
    assert capsys.readouterr().err == "welm: error: what; where; next\n"


def test_debug_shows_the_traceback_and_is_not_passed_on(capsys):
    seen = []

    def main(argv):
        seen.extend(argv)
        raise InputError("wrong")

    assert run_door(main, ["a", "--debug", "b"], "welm") == 2
    assert seen == ["a", "b"]
    assert "Traceback" in capsys.readouterr().err


def test_success_is_0_interruption_is_75_and_a_bug_is_not_hidden(capsys):
    assert run_door(lambda argv: None, [], "welm") == 0

    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "/run/metrics.jsonl")

    assert run_door(full, [], "welm") == 70

    def missing(argv):
        return open("/nowhere/at/all")

    assert run_door(missing, [], "welm") == 2
    assert "/nowhere/at/all" in capsys.readouterr().err

    def interrupted(argv):
        raise KeyboardInterrupt

    assert run_door(interrupted, [], "welm") == 75

    def broken(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_door(broken, [], "welm")
