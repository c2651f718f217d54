"""How every benchmark ends: a JSON line per bar, and exit status 0 only if all hold."""

import json
import operator
from collections.abc import Sequence

RELATIONS = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


def ended(bars: Sequence[tuple[str, float | None, str]]) -> int:
    """Prints bars as (name, measured value, target such as ">= 0.98"); gives the exit status.

    A value of None could not be measured, and so its bar does not hold.
    """
    all_hold = bool(bars)
    for bar, value, target in bars:
        relation, bound = target.split()
        holds = value is not None and bool(RELATIONS[relation](value, float(bound)))
        all_hold &= holds
        print(json.dumps({"bar": bar, "value": value, "target": target, "holds": holds}))
    return 0 if all_hold else 1
