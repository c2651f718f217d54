"""A piece of work that two implementations do alike: its size, weights and tokens.

Knows numpy and neither jax nor torch, so that the processes of both sides of gpu_suite, and of
generation, draw the same numbers, each in its own memory: no weights are exchanged.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from welm_jax.gpt_neox_layout import LAYER_NAMES
from welm_jax.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Work:
    """Optimizer steps on one batch, and how they are worked through.

    Attributes:
      model: num_layers, num_heads, d_model and vocab_size, as ModelConfig has them.
      batch_size: sequences per optimizer step.
      sequence_tokens: T.
      learning_rate: of every step.
      dtype: of activations and matrix products; weights and moments are float32.
      microbatch: sequences whose activations exist at one time.
      remat: what our backward pass recomputes; the peer recomputes nothing.
      forces_xla: whether our attention is XLA's instead of the kernel that training takes.
      loss_chunks: pieces of the sequence whose logits we hold at one time; the peer holds all.
      warm_up_steps: steps that are not timed.
      timed_steps: those after them.
    """

    model: Mapping[str, int]
    batch_size: int
    sequence_tokens: int
    learning_rate: float
    dtype: str
    microbatch: int
    remat: str = "none"
    forces_xla: bool = False
    loss_chunks: int = 1
    warm_up_steps: int
    timed_steps: int

    def decoder(self) -> ModelConfig:
        """The model, with an id for every row of the embedding: the peer knows no padding."""
        wanted = ModelConfig(**self.model, compute_dtype=self.dtype)
        return replace(wanted, vocab_size=wanted.padded_vocab_size)

    def tokens(self) -> np.ndarray:
        """The batch, int32 [B, T + 1]: each id but the last of a row is an input."""
        size = (self.batch_size, self.sequence_tokens + 1)
        return np.random.default_rng(0).integers(0, self.decoder().vocab_size, size, np.int32)

    def weights(self) -> dict[str, np.ndarray]:
        """Float32 weights under our names, with the spread that ours begin with.

        Biases and LayerNorms are random too: at their initial values many faults are silent.
        """
        deviation = np.float32((2 / (5 * self.decoder().d_model)) ** 0.5)
        weights = {name: np.empty(shape, np.float32) for name, shape in self._shapes().items()}

        def draw(name, layer, part):
            seed = [list(weights).index(name), layer]
            np.random.default_rng(seed).standard_normal(dtype=np.float32, out=part)
            part *= deviation
            part += name.endswith("scale")

        parts = [
            (name, layer, part)
            for name, array in weights.items()
            for layer, part in enumerate(array if name.startswith("blocks/") else array[None])
        ]
        with ThreadPoolExecutor() as pool:  # numpy lets threads draw at one time
            list(pool.map(lambda part: draw(*part), parts))
        return weights

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        config = self.decoder()
        width, heads = config.d_model, (config.num_heads, config.head_width)
        layer = {
            "qkv/kernel": (width, 3, *heads),
            "qkv/bias": (3, *heads),
            "out/kernel": (*heads, width),
            "up/kernel": (width, 4 * width),
            "up/bias": (4 * width,),
            "down/kernel": (4 * width, width),
        }
        return {
            "embed/embedding": (config.vocab_size, width),
            "final_norm/scale": (width,),
            "final_norm/bias": (width,),
        } | {
            f"blocks/{name}": (config.num_layers, *layer.get(name, (width,)))
            for name in LAYER_NAMES
        }


@dataclass(frozen=True, kw_only=True)
class Decoding(Work):
    """Prompts that two implementations continue: the batch without its last ids, in rounds.

    Attributes:
      new_tokens: that each prompt is continued by.
    """

    new_tokens: int
    learning_rate: float = 0.0
    microbatch: int = 1

    def prompts(self) -> np.ndarray:
        """Ids, int32 [B, T]."""
        return self.tokens()[:, :-1]

    def weights(self) -> dict[str, np.ndarray]:
        """Those of a Work, with matrices so large that the next id depends on all before.

        As drawn, they write one id again and again, which a faulty cache would do too.
        """
        weights = super().weights()
        for name, array in weights.items():
            if name.endswith("kernel"):
                array *= 4
        return weights
