"""The errors a person reads, and the four exit statuses they end in.

The status tells the operator what to do, not what went wrong: 0 done, 2 fix your input and do not
retry, 75 start me again, 70 stop and look. What went wrong is in the text.
"""

import sys
import traceback
from collections.abc import Callable, Sequence


class Failure(Exception):
    """An ending that was foreseen: one line for a person, one exit status for a scheduler."""

    status = 70


class InputError(Failure):
    """Something the user gave is wrong; says what was asked, what is allowed, what to change."""

    status = 2


class Preempted(Failure):
    """The work was cut short with everything saved; the same command goes on from there."""

    status = 75


class StopAndLook(Failure):
    """Going on could do harm (corruption, a full disk): a person has to look first."""

    status = 70


def run_door(main: Callable[[Sequence[str]], None], argv: Sequence[str], prog: str) -> int:
    """Runs a command and turns how it ended into one line on stderr and an exit status.

    Args:
      main: the command; gets the arguments without `--debug`.
      argv: the arguments as typed, without the program's name.
      prog: the program's name, which opens the line.

    Returns:
      The exit status: 0, or that of the Failure. With `--debug` in argv any exception shows its
      traceback instead; one that is no Failure always does, for it is a bug of ours.
    """
    arguments = [argument for argument in argv if argument != "--debug"]
    try:
        main(arguments)
    except Failure as failure:
        if len(arguments) < len(argv):
            traceback.print_exc()
        print(f"{prog}: error: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; the same command goes on from what was saved", file=sys.stderr)
        return Preempted.status
    return 0
