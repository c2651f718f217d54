"""Our tokenizer as seqio wants it, for Tasks whose examples are text.

Owns nothing but the bridge. SentencePieceVocabulary of seqio would not do: it loses U+2581, and
its fast tokenizer gives other ids altogether.
"""

from collections.abc import Iterable

import numpy as np
import seqio
import tensorflow as tf

from welm_jax.text.fast_tokenizer import open_tokenizer


class WelmVocabulary(seqio.Vocabulary):
    """A seqio vocabulary that encodes and decodes exactly as the tokenizers of floor `text` do.

    Its end-of-sequence id is our end of document. Two are equal if their model files are.
    """

    def __init__(self, model_file: str):
        super().__init__()
        self.tokenizer = open_tokenizer(model_file)

    @property
    def eos_id(self) -> int:
        """The end of a document."""
        return self.tokenizer.eod_id

    @property
    def unk_id(self) -> int:
        """What stands for ids beyond the vocabulary; no text encodes to it."""
        return self.tokenizer.unknown_id

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode([int(token) for token in ids])

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: tf.Tensor) -> np.ndarray:
            return np.array(self._encode(text.numpy().decode()), np.int32)

        return tf.ensure_shape(tf.py_function(encode, [s], tf.int32), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(row: tf.Tensor) -> str:
            return self._decode(row.numpy())

        return tf.ensure_shape(tf.py_function(decode, [ids], tf.string), [])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WelmVocabulary) and self.tokenizer.sha256 == other.tokenizer.sha256
