"""What a train step needs of a device's memory and time, in closed form; nothing is compiled.

The memory terms were fitted to compiled programs of the 1.3B, 2.7B and 10B models for GPUs and
stand within a tenth of most; on TPUs up to a fifth is missing. They order the candidates of a plan,
and a compilation then has the last word. The time is an estimate from data sheets: arithmetic and
traffic one after the other, nothing overlapped; no device of these was timed for it.
"""

import math
from dataclasses import dataclass

from welm_jax.model.attention import Kernel
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Remat
from welm_jax.train.accelerators import Accelerator

FLOAT32, STATES = 4, 3  # bytes; parameters and both moments
# Large products reach some four fifths of the data sheet's peak: 798 of 989 TFLOP/s on an H100.
REACHABLE = 0.8

# Bytes a token, layer and unit of model width that the backward pass finds, in half precision:
# those that every device of a tensor axis has whole, and those that are split over it.
SAVED = {"none": (36, 39), "dots": (4, 16), "full": (2, 0)}
# The same of the one layer that is being differentiated, alive beside them.
WORKING = (12, 24)
# Bytes a score of XLA's attention, in the layer at work and of each that keeps its own.
SCORE_NOW, SCORE_KEPT = 12, 6
# Bytes a logit: float32 scores, their softmax, its difference in half precision.
LOGIT = 10
# Bytes a token, layer and unit of width that pass through memory outside of matrix products.
PASSING = {"none": 90, "dots": 100, "full": 120}
# Bytes a score of XLA's attention that pass through it: some forward, more backward, some again.
SCORE_PASSING = {"none": 32, "dots": 44, "full": 44}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to run a step.

    Attributes:
      data: size of this mesh axis, as fsdp and tensor are.
      fsdp: see data.
      tensor: see data.
      rows: sequences a device works on at a time.
      microbatches: parts of the batch.
      remat: the policy.
    """

    data: int
    fsdp: int
    tensor: int
    rows: int
    microbatches: int
    remat: Remat

    @property
    def devices(self) -> int:
        """All of the mesh."""
        return self.data * self.fsdp * self.tensor

    def ways_at_rest(self, width: int) -> int:
        """Parts of the state; as axes.at_rest, it is whole along data if that does not divide."""
        divides = width % (self.data * self.fsdp) == 0
        return self.tensor * self.fsdp * (self.data if divides else 1)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained.

    Attributes:
      model: its shape.
      sequence_tokens: T.
      loss_chunks: see StepConfig.
      kernel: of attention; XLA's makes T x T scores.
    """

    model: ModelConfig
    sequence_tokens: int
    loss_chunks: int
    kernel: Kernel

    @property
    def half_bytes(self) -> int:
        """Bytes of an activation."""
        return FLOAT32 if self.model.compute_dtype == "float32" else 2

    @property
    def table_size(self) -> int:
        """Parameters of one embedding, padding rows and all."""
        return self.model.padded_vocab_size * self.model.d_model

    @property
    def body_size(self) -> int:
        """Parameters of the blocks."""
        return self.model.body_parameters

    @property
    def embeddings_size(self) -> int:
        """Parameters of one embedding, or of two."""
        return self.table_size * (1 if self.model.ties_embeddings else 2)


def memory_parts(work: Workload, how: Candidate) -> dict[str, float]:
    """Bytes on a device at the step's fullest moment, by what they are for."""
    model, half = work.model, work.half_bytes
    split = how.tensor * how.fsdp
    size = work.body_size + work.embeddings_size
    gradients = (half * work.body_size + FLOAT32 * work.embeddings_size) / split
    copy = gradients if how.data > 1 else (half < FLOAT32) * half * work.body_size / split
    layer_tokens = how.rows * work.sequence_tokens * model.d_model * half / 2
    whole, parted = SAVED[how.remat]
    whole_now, parted_now = WORKING
    sums = how.microbatches > 1 or how.data * how.fsdp > 1  # reduced in float32
    gathered = 0.0
    if how.fsdp > 1:  # a layer's weights and their gradients, the embedding and its gradient
        of_layer = 3 * half * work.body_size / model.num_layers
        gathered = (of_layer + 2 * FLOAT32 * work.embeddings_size) / how.tensor
    logits = how.rows * work.sequence_tokens / work.loss_chunks * model.padded_vocab_size
    working = (whole_now + parted_now / how.tensor) * layer_tokens
    kept = (whole + parted / how.tensor) * layer_tokens
    if work.kernel == "xla":
        scores = how.rows * model.num_heads / how.tensor * work.sequence_tokens**2
        working += SCORE_NOW * scores
        kept += SCORE_KEPT * scores if how.remat == "none" else 0.0
    return {
        "parameters and moments": STATES * FLOAT32 * size / how.ways_at_rest(model.d_model),
        "weights in use": copy,
        "sums of gradients": FLOAT32 * size / split if sums else 0.0,
        "gradients": gradients,
        "gathered over fsdp": gathered,
        "kept for the backward pass": model.num_layers * kept,
        "one layer, or the logits": max(working, LOGIT * logits / how.tensor),
    }


def seconds_parts(work: Workload, how: Candidate, device: Accelerator) -> dict[str, float]:
    """Seconds of a step by data sheet, by what they go to."""
    model, half, T = work.model, work.half_bytes, work.sequence_tokens
    split, size = how.tensor * how.fsdp, work.body_size + work.embeddings_size
    tokens = how.rows * how.microbatches * T  # a device's, shared with those along tensor
    flops = tokens * (model.flops_per_token(T) + recomputed_flops(work, how)) / how.tensor

    per_microbatch = (2 * FLOAT32 + 5 * half) * size / split  # sums, gradients, weights thrice
    per_microbatch += work.loss_chunks * 3 * FLOAT32 * work.table_size / how.tensor
    layer_tokens = tokens * model.d_model * model.num_layers * half / 2
    once = (2 * STATES + 2) * FLOAT32 * size / how.ways_at_rest(model.d_model)
    moved = per_microbatch * how.microbatches + PASSING[how.remat] * layer_tokens / how.tensor
    if work.kernel == "xla":
        scores = tokens * T * model.num_heads * model.num_layers / how.tensor
        moved += SCORE_PASSING[how.remat] * scores

    reductions = {"none": 4, "dots": 4, "full": 5}[how.remat] * model.num_layers + 2
    of_tensor = reductions * how.microbatches * how.rows * T * model.d_model * half * 2
    of_fsdp = 3 * how.microbatches * half * size / how.tensor
    of_data = (FLOAT32 + half) * size / split
    return {
        "arithmetic": flops / (_peak(work, device) * REACHABLE),
        "memory traffic": (moved + once) / device.memory_bandwidth,
        "exchange along tensor": _exchanged(of_tensor, how.tensor, how.tensor, device),
        "exchange along fsdp": _exchanged(of_fsdp, how.fsdp, split, device),
        "exchange along data": _exchanged(of_data, how.data, how.devices, device),
    }


def _peak(work: Workload, device: Accelerator) -> float:
    """FLOP/s of products: jax takes TF32 for float32 on GPUs, and bfloat16 on TPUs."""
    halved = work.model.compute_dtype == "float32" and device.topology is None
    return device.peak_flops / (2 if halved else 1)


def recomputed_flops(work: Workload, how: Candidate) -> float:
    """FLOPs a token spends on what the policy threw away; MFU does not count them."""
    forward = work.model.flops_per_token(work.sequence_tokens) / 3
    of_head = 2 * work.model.vocab_size * work.model.d_model
    return forward - of_head if how.remat == "full" else 0.0


def _exchanged(sent: float, ways: int, span: int, device: Accelerator) -> float:
    """Seconds of a ring over an axis, by the slower of the links that its groups lie on."""
    near = device.topology is not None or span <= device.devices_per_host
    bandwidth = device.link_bandwidth if near else device.network_bandwidth
    return sent * (ways - 1) / ways / bandwidth


def candidates(work: Workload, batch_size: int, devices: int, most_tensor: int) -> list[Candidate]:
    """Every way to lay a batch and a model over some devices.

    Args:
      work: what is trained.
      batch_size: sequences of a step.
      devices: how many there are.
      most_tensor: largest tensor axis: beyond a node it is never worth it.
    """
    model, found = work.model, []
    for tensor in _divisors(math.gcd(model.num_heads, devices, model.padded_vocab_size)):
        if tensor > most_tensor:
            continue
        for fsdp in _divisors(math.gcd(devices // tensor, model.d_model)):
            data = devices // tensor // fsdp
            if batch_size % (data * fsdp):
                continue
            per_device = batch_size // (data * fsdp)
            found += [
                Candidate(
                    data=data,
                    fsdp=fsdp,
                    tensor=tensor,
                    rows=rows,
                    microbatches=per_device // rows,
                    remat=remat,
                )
                for rows in _divisors(per_device)
                if rows <= 64
                for remat in SAVED
            ]
    return found


def _divisors(number: int) -> list[int]:
    small = [one for one in range(1, math.isqrt(number) + 1) if number % one == 0]
    return sorted({*small, *(number // one for one in small)})
