"""Our spike detector on loss curves of real runs: false alarms, and spikes that must be found.

    python -m benchmarks.real_curves CURVES

CURVES holds `NAME.csv` or `NAME.csv.xz` with columns step and loss, a line an iteration. Open loop,
as a run that only logs. real_spikes.json names the spikes that we know of, from looking at the
curves: of each curve [first step, last step] of losses that stayed up. A trigger in none of them is
a false alarm. Prints each trigger, a line a curve, and the bars; the exit status is 0 if all hold.
"""

import argparse
import csv
import json
import lzma
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import bars
from welm_jax.train.spikes import History, Incident, Place, Reading, SpikeConfig, ignored, judge

KNOWN = Path(__file__).parent / "real_spikes.json"
MOST_FALSE_ALARMS = 1  # in 100,000 steps

Stretch = Sequence[int]  # first and last step


def incidents(file: Path) -> tuple[int, list[Incident]]:
    """How many lines a curve has, and where the detector acts on it."""
    history, config, found, number = History(), SpikeConfig(), [], 0
    for number, (step, loss) in enumerate(_lines(file), start=1):
        place = Place(iteration=number, step=step, cursor=number)
        reading = Reading(place=place, loss=loss, gradient_norm=1.0, loss_scale=None)
        history, _, incident = judge(history, reading, config)
        if incident:
            found.append(incident)
            history = ignored(history)
    return number, found


def _lines(file: Path) -> Iterator[tuple[int, float]]:
    opened = lzma.open if file.suffix == ".xz" else open
    with opened(file, "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            yield int(line["step"]), float(line["loss"] or "nan")


def is_of(incident: Incident, stretch: Stretch) -> bool:
    """Whether a trigger is about this spike: what it saw overlaps with it."""
    first, last = stretch
    return incident.onset.step <= last and first <= incident.detected.step


def main(arguments: Sequence[str]) -> int:
    """Runs the detector over the curves, prints the bars and returns the exit status."""
    parser = argparse.ArgumentParser(prog="real_curves")
    parser.add_argument("curves", type=Path)
    parser.add_argument("--spikes", type=Path, default=KNOWN, help="JSON: curve -> spikes")
    options = parser.parse_args(arguments)
    known: Mapping[str, Sequence[Stretch]] = json.loads(options.spikes.read_text(encoding="utf-8"))
    files = sorted([*options.curves.glob("*.csv"), *options.curves.glob("*.csv.xz")])
    steps = false_alarms = met = wanted = 0
    for file in files:
        name = file.name.partition(".csv")[0]
        count, found = incidents(file)
        spikes = known.get(name, ())
        for one in found:
            is_right = any(is_of(one, spike) for spike in spikes)
            false_alarms += not is_right
            words = "" if is_right else ": FALSE ALARM"
            print(
                f"  {name}: {one.rule} at step {one.detected.step:,}, from {one.onset.step:,}; "
                f"{one.loss:.2f} above {one.median:.2f} + {one.threshold:.2f}{words}"
            )
        seen = [spike for spike in spikes if any(is_of(one, spike) for one in found)]
        missed = [list(spike) for spike in spikes if spike not in seen]
        print(f"{name}: {count:,} steps, {len(found)} triggers; missed: {missed}", flush=True)
        steps, met, wanted = steps + count, met + len(seen), wanted + len(spikes)
    per_100k = false_alarms / steps * 100_000 if steps else None
    return bars.ended(
        [
            ("false_alarms_per_100k_real_steps", per_100k, f"<= {MOST_FALSE_ALARMS}"),
            ("known_spikes_missed", wanted - met, "== 0"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
