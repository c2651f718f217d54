"""A decoder whose weights are planted, not trained: a bigram model, run as any decoder is."""

from collections.abc import Mapping

import jax
import numpy as np

from tests.tiny_decoder import random_parameters
from welm_jax.model.config import ModelConfig

LARGE = 1000.0  # beside it LayerNorm's epsilon is nothing


def shape(vocab_size: int) -> ModelConfig:
    """Wide enough for fifteen words that have something after them."""
    return ModelConfig(
        num_layers=1,
        num_heads=2,
        d_model=16,
        vocab_size=vocab_size,
        ties_embeddings=False,
        compute_dtype="float32",
    )


def bigrams(config: ModelConfig, after: Mapping[int, Mapping[int, float]]) -> dict:
    """Weights with which the logits after a word are those of a table; 0 where it says nothing.

    Blocks add nothing to the embedding of a word, one large number in a place of its own, of which
    the last LayerNorm makes a one: subtracting the mean and dividing by the deviation gives
    sqrt(D - 1) there and -1 / sqrt(D - 1) elsewhere. The head then looks the word up.

    Args:
      config: untied, with d_model above the number of words in the table.
      after: word -> next word -> logit.
    """
    width = config.d_model
    weights = jax.tree.map(np.zeros_like, random_parameters(config))
    weights["final_norm"]["scale"][:] = np.sqrt(width - 1) / width
    weights["final_norm"]["bias"][:] = 1 / width
    embedding, head = weights["embed"]["embedding"], weights["head"]["embedding"]
    embedding[:, -1] = LARGE  # words with nothing after them
    for place, (word, following) in enumerate(after.items()):
        embedding[word] = LARGE * np.eye(width)[place]
        for next_word, logit in following.items():
            head[next_word, place] = logit
    return weights
