"""What a run says while it trains: console, `metrics.jsonl`, TensorBoard."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from welm_jax import run_files
from welm_jax.run_files import RunFolder
from welm_jax.train import accelerators, hosts


class RunLog:
    """Writes every step to disk in groups, and shows the latest; a context manager.

    Of several processes the first alone writes and speaks.
    """

    def __init__(self, run: RunFolder, *, flops_per_token: int, total_steps: int, every_steps: int):
        self._run = run
        self._flops_per_token = flops_per_token
        self._every_steps = every_steps
        self._waiting: list[dict] = []
        self._events: dict[int, SummaryWriter] = {}  # of each attempt
        self._is_first = hosts.is_first()
        self._console = Console(quiet=not self._is_first)
        self._bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total_steps)

    def __enter__(self) -> "RunLog":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.flush()
        self._bar.stop()
        for events in self._events.values():
            events.close()

    def say(self, text: str) -> None:
        """Prints a line above the progress bar, brackets and all."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Console]:
        """Gives the console to who shows progress of their own there; ours rests meanwhile."""
        self._bar.stop()
        try:
            yield self._console
        finally:
            self._bar.start()

    def scalars(self, attempt: int, step: int, values: Mapping[str, int | float]) -> None:
        """Writes named values of a step to TensorBoard only.

        An attempt has a curve of its own, so that what a rollback discarded stays to be seen. Of a
        run in a bucket, to which nothing can be appended, there are no events.
        """
        if not self._is_first or run_files.in_bucket(self._run.path):
            return
        if attempt not in self._events:
            folder = self._run.tensorboard / f"attempt_{attempt}"
            self._events[attempt] = SummaryWriter(str(folder))
        for name, value in values.items():
            if math.isfinite(value):
                self._events[attempt].add_scalar(name, value, step)

    def step(self, record: Mapping[str, int | float | str], seconds: float | None) -> None:
        """Takes one finished iteration.

        Args:
          record: as the loop makes it: attempt, step, cursor, guarded, tokens (so far),
            batch_tokens, loss, gradient_norm, learning_rate and more, of the host.
          seconds: time it took, measured after blocking on its result; None for one that
            compiled or came after a callback.
        """
        speed = record["batch_tokens"] / seconds if seconds else None
        kind, devices = jax.devices()[0].device_kind, jax.device_count()
        mfu = speed and accelerators.utilization(speed, self._flops_per_token, kind, devices)
        self._waiting.append({**record, "seconds": seconds, "tokens_per_second": speed, "mfu": mfu})
        shown = f"loss {record['loss']:.4f}  rate {record['learning_rate']:.2e}"
        if speed:
            shown += f"  {speed:,.0f} tokens/s  MFU " + ("n/a" if mfu is None else f"{mfu:.1%}")
        self._bar.update(self._task, completed=record["step"], description=shown)
        if record["step"] % self._every_steps == 0:
            if not self._console.is_terminal:
                self.say(f"step {record['step']}/{self._bar.tasks[0].total:.0f}  {shown}")
            self.flush()

    def evaluation(
        self, place: Mapping[str, int], scores: Mapping[str, float], failed: str = ""
    ) -> None:
        """Writes what tasks scored: a line of metrics.jsonl and curves of TensorBoard.

        Args:
          place: where the run stands: attempt, step, cursor, tokens.
          scores: by name.
          failed: why there are none.
        """
        self.flush()
        line = {**place, "failed": failed} if failed else {**place, "scores": scores}
        if self._is_first:
            run_files.append_lines(self._run.metrics, [line])
        named = {f"evaluation/{name}": value for name, value in scores.items()}
        self.scalars(place["attempt"], place["step"], named)

    def flush(self) -> None:
        """Writes what waits: all to metrics.jsonl, what the console shows to TensorBoard."""
        if self._is_first:
            run_files.append_lines(self._run.metrics, self._waiting)
        for record in self._waiting:
            if record["step"] % self._every_steps:
                continue  # a writer of events costs more than all else that is done for a step
            numbers = {name: one for name, one in record.items() if isinstance(one, int | float)}
            self.scalars(numbers.pop("attempt"), numbers.pop("step"), numbers)
        self._waiting.clear()
