"""Our train step on one GPU beside PyTorch's: speed, memory, float16, parity. Synthetic tokens.

    python -m benchmarks.gpu_suite           # one GPU, under nine minutes
    python -m benchmarks.gpu_suite --tiny    # any CPU, a small model, to see that it runs

Needs jax, flax and optax, for the peer torch and transformers; jaxtyping and wadler-lindig, where
not installed, can come as wheels: PYTHONPATH=jaxtyping-VERSION.whl:wadler_lindig-VERSION.whl.
Where torch lives elsewhere, --peer_python names its interpreter. No JAX here: each measurement is
a process of its own (gpu_measurements, gpt_neox_peer), so that peak memory is its own and running
out of it ends nothing else. They share one compilation cache, which is empty at first.

In this order, while there is time: parity; the sweep over ways to do the step, the most promising
first; float16 in the fastest way; the fastest way and the peer in turn, ours, theirs, theirs,
ours, whose first losses show that it is the same work; the peer's other microbatch, which counts
if it is the faster one; what is left of the sweep. A table, then one JSON line for each bar; the
exit status is 0 if all hold. What could not be measured does not hold.

MFU = tokens/s x F / peak, with F = 6 x (body + vocabulary x width) + 6 x layers x width x T
(ModelConfig.flops_per_token) and the device's dense bfloat16 peak; recomputation does not count.
"""

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks import bars
from benchmarks.measuring_processes import NO_TIME, Bench, environment_of
from benchmarks.same_work import Work
from welm_jax.model.config import ModelConfig
from welm_jax.train.accelerators import utilization

FULL = {
    "work": {  # gin_configs/models/welm_1b3.gin
        "model": {"num_layers": 24, "num_heads": 16, "d_model": 2048, "vocab_size": 62_000},
        "batch_size": 32,
        "sequence_tokens": 2048,
        "learning_rate": 1e-5,
    },
    "dtype": "bfloat16",
    "points": [  # microbatch, remat, whether attention is XLA's, loss chunks
        (8, "dots", False, 4),
        (4, "none", False, 2),
        (16, "dots", False, 8),
        (8, "dots", False, 16),
        (8, "full", False, 4),
        (8, "full", True, 4),
        (16, "full", False, 8),
        (4, "none", False, 16),
    ],
    "peer_microbatches": [8, 4],
    "losses_apart": 1e-2,
}
TINY = {
    "work": {
        "model": {"num_layers": 2, "num_heads": 4, "d_model": 64, "vocab_size": 500},
        "batch_size": 4,
        "sequence_tokens": 64,
        "learning_rate": 1e-3,
    },
    "dtype": "float32",
    "points": [(2, "none", False, 4), (4, "full", True, 1)],
    "peer_microbatches": [2, 4],
    "losses_apart": 1e-4,
}
SECONDS, RESERVED = 520, 320  # of all; what float16 and the comparison may take of them
SWEPT = {"warm_up_steps": 2, "timed_steps": 4}
IN_FLOAT16 = {"warm_up_steps": 5, "timed_steps": 5}  # until the loss scale is low enough, and on
COMPARED = {"warm_up_steps": 5, "timed_steps": 12}
COLUMNS = (
    "| side | dtype | microbatch | remat | attention | loss chunks "
    "| s/step: median (min to max) | tokens/s | MFU | peak GiB | planned GiB | closed form GiB "
    "| compile s | loss: first to last |"
)


class Suite:
    """The rows of the table, measured one after the other."""

    def __init__(self, setting: dict, bench: Bench):
        self.setting, self.bench, self.rows = setting, bench, []
        self._points, self._longest = list(setting["points"]), {"ours": 0.0, "peer": 0.0}

    def measure(self, part: str, side: str, keeps: float = 0.0, **how) -> dict:
        """One row, printed as soon as it is there."""
        left = self.bench.left()
        how = {"dtype": self.setting["dtype"], **how}
        work = Work(**self.setting["work"], **how)
        row = {**asdict(work), "part": part, "side": side} | self.bench.ask(side, work, keeps)
        self._longest[side] = max(self._longest[side], left - self.bench.left())
        self.rows.append(row)
        print(table_row(row), flush=True)
        return row

    def sweep(self, keeps: float) -> None:
        """Points that were not measured yet, while there is time for one more."""
        while self._points and self.bench.left() > keeps + self._longest["ours"]:
            self.measure("sweep", "ours", keeps, **_point(self._points.pop(0)), **SWEPT)

    def compare(self) -> None:
        """Float16 in the fastest way, then that way and the peer in turn: A B B A."""
        swept = ran(self.rows, part="sweep")
        if not swept:
            return
        fastest = min(swept, key=lambda row: statistics.median(row["seconds"]))
        fields = ("microbatch", "remat", "forces_xla", "loss_chunks")
        best = {field: fastest[field] for field in fields}
        self.measure("float16", "ours", **best, **IN_FLOAT16, dtype="float16")
        self.measure("compared", "ours", **best, **COMPARED)
        for microbatch in self.setting["peer_microbatches"]:
            row = self.measure("compared", "peer", microbatch=microbatch, **COMPARED)
            if row.get("failed") != "out of memory":
                break
        if "failed" not in row:
            self.measure("compared", "peer", microbatch=microbatch, **COMPARED)
        self.measure("compared", "ours", **best, **COMPARED)

    def rest(self) -> None:
        """What there is still time for, and a row for each point that there is none for."""
        tried = {row["microbatch"] for row in self.rows if row["side"] == "peer"}
        others = [one for one in self.setting["peer_microbatches"] if one not in tried]
        if ran(self.rows, side="peer") and others and self.bench.left() > self._longest["peer"]:
            self.measure("other", "peer", microbatch=others[0], **SWEPT)
        self.sweep(0)
        for point in self._points:
            missing = {"side": "ours", "dtype": self.setting["dtype"], "failed": NO_TIME}
            print(table_row(missing | _point(point)))


def _point(point: tuple) -> dict:
    return dict(zip(("microbatch", "remat", "forces_xla", "loss_chunks"), point, strict=True))


def ran(rows: Sequence[dict], **wanted: str) -> list[dict]:
    """The rows that did not fail, of those with these values."""
    return [row for row in rows if "failed" not in row and wanted.items() <= row.items()]


def table_row(row: dict) -> str:
    kernel = row.get("attention", "xla" if row["forces_xla"] else "")
    chunks = row["loss_chunks"] if row["side"] == "ours" else 1
    way = f"| {row['side']} | {row['dtype']} | {row['microbatch']} | {row['remat']} | {kernel} "
    way += f"| {chunks} "
    if "failed" in row:
        return f"{way}| {row['failed']} | | | | | | | |"
    seconds, losses = row["seconds"], row["losses"]
    peak, planned, closed_form = (
        f"{row[name] / 2**30:.1f}" if row[name] else "n/a"
        for name in ("peak_bytes", "planned_bytes", "closed_form_bytes")
    )
    mfu = mfu_of([row])
    return (
        f"{way}| {statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) "
        f"| {tokens_per_second([row]):,.0f} | {f'{mfu:.1%}' if mfu else 'MFU n/a'} | {peak} "
        f"| {planned} | {closed_form} | {row['compile_seconds']:.0f} "
        f"| {losses[0]:.3f} to {losses[-1]:.3f} |"
    )


def tokens_per_second(rows: Sequence[dict]) -> float:
    """By the median of all steps that were timed."""
    seconds = statistics.median(itertools.chain(*(row["seconds"] for row in rows)))
    return rows[0]["batch_size"] * rows[0]["sequence_tokens"] / seconds


def mfu_of(rows: Sequence[dict]) -> float | None:
    """Model FLOPs utilisation, or None: no rows, or a device whose peak we do not know."""
    if not rows:
        return None
    flops = ModelConfig(**rows[0]["model"]).flops_per_token(rows[0]["sequence_tokens"])
    return utilization(tokens_per_second(rows), flops, rows[0]["device"], 1)


def speed_over_peer(rows: Sequence[dict]) -> float | None:
    """Our tokens/s over the peer's at the better of its microbatches; None if one is missing."""
    ours, theirs = (ran(rows, part="compared", side=side) for side in ("ours", "peer"))
    if not ours or not theirs or ours[0]["device"] != theirs[0]["device"]:
        return None
    others = [[row] for row in ran(rows, part="other")]
    return tokens_per_second(ours) / max(map(tokens_per_second, [theirs, *others]))


def losses_apart(rows: Sequence[dict]) -> float | None:
    """How far the first three losses of the two sides are apart at most, in nats."""
    ours, theirs = (ran(rows, part="compared", side=side) for side in ("ours", "peer"))
    if not ours or not theirs:
        return None
    pairs = zip(ours[0]["losses"][:3], theirs[0]["losses"][:3], strict=True)
    return max(abs(one - other) for one, other in pairs)


def float16_fall(rows: Sequence[dict]) -> float | None:
    """By how much the loss falls in float16, in nats; None if it is not finite throughout."""
    losses = [loss for row in ran(rows, part="float16") for loss in row["losses"]]
    return losses[0] - losses[-1] if losses and all(map(math.isfinite, losses)) else None


def planned_memory_error(rows: Sequence[dict]) -> float | None:
    """The worst relative error of a planned peak, of ours; None where no device says its peak.

    Those of the comparison are not asked: what they run was planned before, and cached.
    """
    errors = [
        abs(row["planned_bytes"] / row["peak_bytes"] - 1)
        for row in ran(rows, part="sweep") + ran(rows, part="float16")
        if row["peak_bytes"] and row["planned_bytes"]
    ]
    return max(errors, default=None)


def bars_of(setting: dict, parity: dict, rows: Sequence[dict]) -> list[tuple]:
    """What is asked; of the tiny form, on a CPU, neither speed nor memory."""
    asked = [
        ("points_run", len(ran(rows, part="sweep")), f">= {len(setting['points']) // 2}"),
        ("parity_logits", parity.get("logits"), "<= 1e-5"),
        ("parity_gradients", parity.get("gradients"), "<= 1e-5"),
        ("float16_loss_fall", float16_fall(rows), ">= 0.01"),
        ("losses_apart_from_peer", losses_apart(rows), f"<= {setting['losses_apart']}"),
    ]
    if setting is FULL:
        asked += [
            ("mfu", mfu_of(ran(rows, part="compared", side="ours")), ">= 0.55"),
            ("speed_over_peer", speed_over_peer(rows), ">= 1.15"),
            ("planned_memory_error", planned_memory_error(rows), "<= 0.10"),
        ]
    return asked


def main() -> int:
    """Measures, prints the table and the bars, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a small model, on a CPU")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with torch")
    options = parser.parse_args()
    setting, started = (TINY if options.tiny else FULL), time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = environment_of(options.tiny, folder)
        with Bench(options.peer_python, environment, SECONDS) as bench:
            parity, suite = bench.ask("ours", None), Suite(setting, bench)
            unknown = f"unknown device, for parity failed: {parity.get('failed')}"
            print(f"1 x {parity.get('device', unknown)}, {setting}\n")
            print(COLUMNS, "|---" * (COLUMNS.count("|") - 1) + "|", sep="\n")
            suite.sweep(RESERVED)
            suite.compare()
            suite.rest()
    software = dict.fromkeys(row["software"] for row in ran(suite.rows))
    print(f"\n{'; '.join(software)}; {time.monotonic() - started:.0f} s in all")
    if options.tiny:
        print("a CPU is asked for neither speed nor memory")
    return bars.ended(bars_of(setting, parity, suite.rows))


if __name__ == "__main__":
    sys.exit(main())
