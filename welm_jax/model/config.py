"""The decoder's shape: Table 2 of the paper as fields. Knows neither jax nor a mesh."""

from dataclasses import dataclass
from typing import Literal

from welm_jax.failures import InputError, require_positive

# Embedding rows are padded to a multiple of this, so that a checkpoint fits tensor axes up to 8
# with shards that stay multiples of 128.
VOCABULARY_MULTIPLE = 1024


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one WeLM decoder, or of another that GPT-NeoX's layout holds.

    Attributes:
      num_layers: decoder blocks.
      num_heads: attention heads; each is d_model / num_heads wide.
      d_model: width of the residual stream; the feed-forward width is 4 x d_model.
      vocab_size: ids the tokenizer can produce; the paper says "62k".
      ties_embeddings: whether the output projection is the embedding. The paper does not say;
        tied, the sizes land on its labels 1.3B, 2.7B and 10B.
      parallel_residual: whether attention and feed-forward network both read what comes into a
        block, as in many public models, instead of one after the other, as in the paper's.
      rotary_fraction: share of each head that rotary turns, from its beginning; the paper's is 1.
      compute_dtype: type of activations and matrix products; parameters stay float32. The paper's
        is float16, which trains with a loss scale.

    Source: WeLM Table 2.
    """

    num_layers: int
    num_heads: int
    d_model: int
    vocab_size: int = 62_000
    ties_embeddings: bool = True
    parallel_residual: bool = False
    rotary_fraction: float = 1.0
    compute_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"

    def __post_init__(self):
        require_positive(self, "num_layers", "num_heads", "d_model", "vocab_size")
        if self.d_model % (2 * self.num_heads):
            raise InputError(
                f"ModelConfig.d_model = {self.d_model} does not split into {self.num_heads} heads "
                "of even width (rotary turns pairs); make it a multiple of 2 x num_heads"
            )
        if not 0 < self.rotary_fraction <= 1 or self.rotary_width < 2 or self.rotary_width % 2:
            raise InputError(
                f"ModelConfig.rotary_fraction = {self.rotary_fraction} of a head of "
                f"{self.head_width} is no even number of places from 2 up; the paper's is 1.0"
            )

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads

    @property
    def rotary_width(self) -> int:
        """Places of a head that rotary turns; the rest stays as it is."""
        return int(self.head_width * self.rotary_fraction)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size and the padding that makes it divide."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def body_parameters(self) -> int:
        """Parameters outside the embedding: 12 d^2 + 13 d a block, 2 d for the last LayerNorm."""
        return self.num_layers * (12 * self.d_model**2 + 13 * self.d_model) + 2 * self.d_model

    @property
    def num_parameters(self) -> int:
        """All parameters, padding rows of the vocabulary not counted."""
        embeddings = 1 if self.ties_embeddings else 2
        return self.body_parameters + embeddings * self.vocab_size * self.d_model

    def flops_per_token(self, sequence_tokens: int) -> int:
        """Training FLOPs a token costs, the only count that this project's MFU uses.

        Six for each parameter that multiplies (the embedding once, as the head: a lookup is free)
        and causal attention at half of 12 L d T. Recomputation for memory is not counted.
        """
        multiplying = self.body_parameters + self.vocab_size * self.d_model
        return 6 * multiplying + 6 * self.num_layers * self.d_model * sequence_tokens
