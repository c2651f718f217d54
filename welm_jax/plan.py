"""`welm plan`: whether a run fits its devices and how long it takes, before any is rented.

A closed-form model orders all ways to run the step; the real step, compiled for the devices, then
has the last word on memory and shows what they exchange.
"""

import collections
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from welm_jax import ahead_of_time, cost_model, hlo
from welm_jax.cost_model import Candidate, Workload
from welm_jax.failures import InputError
from welm_jax.model import attention
from welm_jax.model.config import ModelConfig
from welm_jax.train import accelerators
from welm_jax.train.accelerators import Accelerator
from welm_jax.train.loss_scale import LossScaleConfig
from welm_jax.train.mesh import MeshConfig, make_mesh
from welm_jax.train.step import StepConfig

# Of a device's memory. The rest is the runtime's: its context, communication, fragments.
USABLE = 0.88
# Of that, what the closed form may fill, by how far it errs below; and by how much it errs above.
CLOSE = {"gpu": 0.97, "tpu": 0.85}
ABOVE = 1.25
LEAST_ERROR = 1.05  # that the closed form is held to have once a compilation was too large
LOSS_CHUNKS = 16
SHOWN = 5
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
      model: to be trained.
      target: name of the device in accelerators.ACCELERATORS.
      devices: how many there are.
      batch_size: sequences a step.
      sequence_tokens: T.
      tokens: of the whole run.
    """

    model: ModelConfig
    target: str
    devices: int
    batch_size: int
    sequence_tokens: int
    tokens: float

    @property
    def device(self) -> Accelerator:
        """The row of the target."""
        return accelerators.named(self.target)

    @property
    def room(self) -> float:
        """Bytes that a device can give."""
        return USABLE * self.device.memory_bytes

    @property
    def work(self) -> Workload:
        """What a step has to do."""
        return Workload(
            model=self.model,
            sequence_tokens=self.sequence_tokens,
            loss_chunks=LOSS_CHUNKS,
            kernel=attention.kernel_for(
                "tpu" if self.device.topology else "cuda",
                jnp.dtype(self.model.compute_dtype),
                self.sequence_tokens,
                self.model.head_width,
            ),
        )

    def ways(self) -> list[Candidate]:
        """All ways to run the step."""
        most = self.device.devices_per_host
        return cost_model.candidates(self.work, self.batch_size, self.devices, most)

    def ordered(self, error: float = 1.0) -> list[Candidate]:
        """The ways that should fit, the fastest first; of equals the least divided.

        Args:
          error: what the closed form has to be multiplied with, as compiling showed.
        """
        close = CLOSE["tpu" if self.device.topology else "gpu"] * self.room
        return sorted(
            (how for how in self.ways() if self.bytes_of(how) * error <= close),
            key=lambda how: (self.seconds_of(how), how.tensor, how.fsdp, how.microbatches),
        )

    def bytes_of(self, how: Candidate) -> float:
        """Of a device, by the closed form."""
        return sum(cost_model.memory_parts(self.work, how).values())

    def seconds_of(self, how: Candidate) -> float:
        """Of a step, by the closed form."""
        return sum(cost_model.seconds_parts(self.work, how, self.device).values())

    def mfu_of(self, how: Candidate) -> float:
        """Model FLOPs utilisation, by the closed form."""
        flops = self.model.flops_per_token(self.sequence_tokens)
        tokens = self.batch_size * self.sequence_tokens
        return flops * tokens / self.seconds_of(how) / self.device.peak_flops / self.devices


def plan(asked: Question, compile_top: int) -> None:
    """Prints the plan of a run; ends in gin lines.

    Args:
      asked: the run and its devices.
      compile_top: how many of the fastest candidates that fit are compiled.

    Raises:
      InputError: the run does not fit; says by how much, and what would. Or the question is wrong.
    """
    _check(asked, compile_top)
    console = Console(soft_wrap=True, highlight=False)
    _print_question(console, asked)
    best = _best(console, asked, compile_top)
    _print_time(console, asked, best)
    console.print("\n[bold]fits: use these gin lines[/bold], after those of runs/pretrain.gin\n")
    console.print("\n".join(gin_lines(asked, best)))


def gin_lines(asked: Question, how: Candidate) -> Iterator[str]:
    """The bindings that make a run of a candidate, by the macros of runs/pretrain.gin."""
    yield f"MeshConfig.data = {how.data}"
    yield f"MeshConfig.fsdp = {how.fsdp}"
    yield f"MeshConfig.tensor = {how.tensor}"
    yield f"BATCH_SIZE = {asked.batch_size}"
    yield f"MICROBATCHES = {how.microbatches}"
    yield f"StepConfig.loss_chunks = {LOSS_CHUNKS}"
    yield f"REMAT = '{how.remat}'"


def _check(asked: Question, compile_top: int) -> None:
    for flag, value in (
        ("compile-top", compile_top),
        ("tokens", asked.tokens),
        ("devices", asked.devices),
        ("batch_size", asked.batch_size),
        ("sequence_tokens", asked.sequence_tokens),
    ):
        if not value >= 1:  # nor is NaN
            raise InputError(f"--{flag} {value:g}; it must be 1 or more")
    if asked.sequence_tokens % LOSS_CHUNKS:
        raise InputError(
            f"--sequence_tokens {asked.sequence_tokens}; make it a multiple of {LOSS_CHUNKS}"
        )
    ahead_of_time.check_count(asked.device, asked.devices)
    if not asked.ways():
        raise InputError(
            f"a batch of {asked.batch_size} sequences does not divide over {asked.devices} devices "
            f"(or a share of them, where {asked.model.num_heads} heads divide over the rest); take "
            f"a --batch_size that is a multiple of {asked.devices}"
        )


def _best(console: Console, asked: Question, top: int) -> Candidate:
    """The fastest candidate whose compiled step fits, of as many that do as are asked for.

    One that turns out too large says by how much the closed form errs here, and those that would be
    too large with it are passed over. Where none should fit, the smallest has its chance.
    """
    confirmed, error, fitting, compiled = [], 1.0, asked.ordered(), {}
    least = min(asked.ways(), key=asked.bytes_of)
    if fitting:
        console.print(_table(asked, fitting[:SHOWN]))
    for how in fitting:
        said = asked.bytes_of(how)
        if said * error > asked.room:
            continue
        needed = compiled[how] = _compiled(console, asked, how)
        if needed > asked.room:
            error = max(error, needed / said, LEAST_ERROR * error)
            continue
        confirmed.append(how)
        if len(confirmed) == top:
            break
    if confirmed:
        return confirmed[0]
    needed = compiled.get(least, asked.bytes_of(least))
    if least not in compiled and needed <= ABOVE * asked.room:
        needed = _compiled(console, asked, least)
        if needed <= asked.room:
            return least
    raise InputError(_misfit(asked, least, needed))


def _misfit(asked: Question, least: Candidate, needed: float) -> str:
    """By how much nothing fits, and the nearest that should.

    Args:
      asked: the question.
      least: its candidate that needs the least.
      needed: the bytes that it needs, as compiled if it was.
    """
    told = (
        f"does not fit: at the least {needed / GIB:.1f} GiB of the {asked.room / GIB:.1f} GiB that "
        f"{asked.target} can give ({_named(least)}), {(needed - asked.room) / GIB:.1f} GiB too much"
    )
    error = max(1.0, needed / asked.bytes_of(least))
    for devices in (2**power for power in range(1, 14)):
        if not asked.devices < devices <= asked.device.most_devices:
            continue
        more = replace(asked, devices=devices)
        if fitting := more.ordered(error):
            return f"{told}; nearest that should: {devices} x {asked.target}, {_named(fitting[0])}"
    return f"{told}; no power of two of them would do"


def lowered(asked: Question, how: Candidate) -> tuple[jax.stages.Lowered, jax.sharding.Mesh]:
    """The real step of a candidate, ready to be compiled, and the mesh it is for."""
    mesh = make_mesh(
        MeshConfig(data=how.data, fsdp=how.fsdp, tensor=how.tensor),
        ahead_of_time.devices_of(asked.device, asked.devices),
    )
    return ahead_of_time.lowered_step(_config(asked, how), mesh, asked.sequence_tokens), mesh


def _compiled(console: Console, asked: Question, how: Candidate) -> float:
    """Compiles the real step of a candidate, says what it came to, and gives its bytes."""
    began, found = time.perf_counter(), []
    with console.status(f"compiling for {asked.devices} x {asked.target}: {_named(how)}"):
        step, mesh = lowered(asked, how)
        try:
            compiled = step.compile()
        except jax.errors.JaxRuntimeError as error:  # a TPU's compiler refuses what does not fit
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            used = re.search(r"Used ([\d.]+)G of", str(error))
            needed = float(used[1]) * GIB if used else 2 * asked.room
        else:
            needed = ahead_of_time.live_bytes(compiled)
            if needed is None:
                raise InputError(
                    f"the compiler for {asked.target} does not tell what memory it needs"
                )
            found = hlo.collectives(compiled.as_text(), mesh.shape)
    verdict = "fits" if needed <= asked.room else "does NOT fit"
    console.print(
        f"\ncompiled in {time.perf_counter() - began:.0f} s: {_named(how)}\n"
        f"  {needed / GIB:.2f} GiB a device of {asked.room / GIB:.2f} usable "
        f"({asked.device.memory_bytes / GIB:.2f} there): {verdict}; the closed form said "
        f"{asked.bytes_of(how) / GIB:.2f}"
    )
    for line in _exchanges(found):
        console.print(f"  {line}")
    return needed


def _config(asked: Question, how: Candidate) -> Mapping[str, Any]:
    return {
        "ModelConfig": asked.model,
        "OptimizerConfig": ahead_of_time.ANY_OPTIMIZER,
        "LossScaleConfig": LossScaleConfig(),
        "StepConfig": StepConfig(
            batch_size=asked.batch_size,
            microbatches=how.microbatches,
            loss_chunks=LOSS_CHUNKS,
            remat=how.remat,
        ),
    }


def _exchanges(found: Sequence[hlo.Collective]) -> Iterator[str]:
    """A line for the collectives of each kind, axis and place."""
    sums: dict[tuple, list[float]] = collections.defaultdict(lambda: [0, 0])
    for one in found:
        place = "in loops" if one.instruction.in_loop else "once"
        total = sums[place, one.kind, "+".join(sorted(one.axes))]
        total[0] += one.instruction.times
        total[1] += one.instruction.times * one.bytes
    for (place, kind, axes), (times, size) in sorted(sums.items()):
        yield f"{place:8} {kind:18} over {axes:12} {times:6} x a step, {size / GIB:9.3f} GiB"


def _print_question(console: Console, asked: Question) -> None:
    model, tokens = asked.model, asked.batch_size * asked.sequence_tokens
    console.print(
        f"{model.num_parameters:,} parameters ({model.compute_dtype}) on {asked.devices} x "
        f"{asked.target}; {asked.batch_size} x {asked.sequence_tokens} = {tokens:,} tokens a step"
    )


def _table(asked: Question, shown: Sequence[Candidate]) -> Table:
    table = Table(title="The fastest that should fit, by the closed form")
    for column in ("mesh data, fsdp, tensor", "rows x microbatches", "remat", "GiB", "s", "MFU"):
        table.add_column(column, justify="right")
    for how in shown:
        table.add_row(
            f"{how.data}, {how.fsdp}, {how.tensor}",
            f"{how.rows} x {how.microbatches}",
            how.remat,
            f"{asked.bytes_of(how) / GIB:.1f}",
            f"{asked.seconds_of(how):.2f}",
            f"{asked.mfu_of(how):.1%}",
        )
    return table


def _print_time(console: Console, asked: Question, how: Candidate) -> None:
    parts = cost_model.seconds_parts(asked.work, how, asked.device)
    seconds, tokens = sum(parts.values()), asked.batch_size * asked.sequence_tokens
    flops = asked.model.flops_per_token(asked.sequence_tokens)
    a_day, days = tokens / seconds * 86400, asked.tokens / tokens * seconds / 86400
    hfu = asked.mfu_of(how) * (1 + cost_model.recomputed_flops(asked.work, how) / flops)
    spent = ", ".join(f"{part} {value:.2f} s" for part, value in parts.items() if value >= 0.005)
    console.print(
        f"\n{flops:,} FLOPs a token (6 x (body + vocabulary x width) + 6 x layers x width x T)\n"
        f"a step takes {seconds:.2f} s, nothing overlapped and products at "
        f"{cost_model.REACHABLE:.0%} of the peak: {spent}\n"
        f"MFU {asked.mfu_of(how):.1%} of {asked.device.peak_flops / 1e12:g} TFLOP/s "
        f"(HFU {hfu:.1%}, what is recomputed counted), {a_day / 1e9:.2f} billion tokens a day\n"
        f"{asked.tokens / 1e9:g} billion tokens: {days:.1f} days, "
        f"{days * 24 * asked.devices:,.0f} device-hours; an estimate, for nothing was timed"
    )


def _named(how: Candidate) -> str:
    return (
        f"data {how.data} x fsdp {how.fsdp} x tensor {how.tensor}, {how.microbatches} microbatches "
        f"of {how.rows}, remat {how.remat}"
    )
