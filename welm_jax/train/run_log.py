"""What a run says while it trains: console, `metrics.jsonl`, TensorBoard."""

from collections.abc import Mapping

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from welm_jax import run_files
from welm_jax.run_files import RunFolder
from welm_jax.train import utilization


class RunLog:
    """Writes every step to disk in groups, and shows the latest; a context manager."""

    def __init__(self, run: RunFolder, *, flops_per_token: int, total_steps: int, every_steps: int):
        self._run = run
        self._flops_per_token = flops_per_token
        self._every_steps = every_steps
        self._waiting: list[dict] = []
        self._events = SummaryWriter(str(run.tensorboard))
        self._console = Console()
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
        self._events.close()

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def scalars(self, step: int, values: Mapping[str, int | float]) -> None:
        """Writes named values of a step to TensorBoard only."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def step(self, record: Mapping[str, int | float], seconds: float | None) -> None:
        """Takes one finished step.

        Args:
          record: step, cursor, loss, gradient_norm, learning_rate, tokens (so far) and
            batch_tokens, as numbers of the host.
          seconds: time the step took, measured after blocking on its result; None for a step
            that compiled or came after a callback.
        """
        speed = record["batch_tokens"] / seconds if seconds else None
        kind, devices = jax.devices()[0].device_kind, jax.device_count()
        mfu = speed and utilization.utilization(speed, self._flops_per_token, kind, devices)
        self._waiting.append({**record, "seconds": seconds, "tokens_per_second": speed, "mfu": mfu})
        shown = f"loss {record['loss']:.4f}  rate {record['learning_rate']:.2e}"
        if speed:
            shown += f"  {speed:,.0f} tokens/s  MFU " + ("n/a" if mfu is None else f"{mfu:.1%}")
        self._bar.update(self._task, completed=record["step"], description=shown)
        if record["step"] % self._every_steps == 0:
            if not self._console.is_terminal:
                self.say(f"step {record['step']}/{self._bar.tasks[0].total:.0f}  {shown}")
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        run_files.append_lines(self._run.metrics, self._waiting)
        for record in self._waiting:
            step = record["step"]
            self.scalars(step, {k: v for k, v in record.items() if v is not None and k != "step"})
        self._waiting.clear()
