"""Pre-training's sources as seqio sees them: a Task for each, and their Mixture.

Owns what is registered with seqio, and how a Mixture of the user's gives its rates to data.mixture.
Deliberately does not know batches or devices.
"""

import os
from collections.abc import Sequence

import seqio
import tensorflow as tf
from etils import epath

from welm_jax.data.mixture import quotas, source_folder
from welm_jax.data.token_dataset import TokenDataset, read_metadata
from welm_jax.failures import InputError
from welm_jax.tasks.vocabulary import WelmVocabulary
from welm_jax.text.records import TOKENIZER_FILE
from welm_jax.text.sources import OURS, MixtureConfig

# TensorFlow only feeds seqio here; left alone, it would take every GPU's memory from jax.
tf.config.set_visible_devices([], "GPU")

READ_ROWS = 64


class TokenDataSource(seqio.DataSource):
    """A token dataset as a seqio source of examples {"targets": int32 [T + 1]}.

    TFDS cannot give ArrayRecord files to tf.data, so rows pass through numpy: fit for a look or an
    evaluation; training reads the same rows without it.
    """

    def __init__(self, folder: str):
        self.folder = folder
        splits = read_metadata(folder)[0].splits
        super().__init__(splits, {name: split.rows for name, split in splits.items()})

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """True: rows are read by number."""
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        """The folder; its files are no unit of reading."""
        return [self.folder]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_,
    ) -> tf.data.Dataset:
        """See seqio.DataSource."""
        rows = TokenDataset(self.folder, split)
        numbers = tf.data.Dataset.range(len(rows))
        if shard_info is not None:
            numbers = numbers.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            numbers = numbers.shuffle(len(rows), seed=seed)

        def read(batch: tf.Tensor) -> dict[str, tf.Tensor]:
            tokens = tf.numpy_function(
                lambda numbers: rows.__getitems__(numbers.tolist()), [batch], tf.int32
            )
            width = rows.metadata.sequence_tokens + 1
            return {"targets": tf.ensure_shape(tokens, [None, width])}

        return numbers.batch(READ_ROWS).map(read).unbatch()


def register_sources(config: MixtureConfig) -> seqio.Mixture:
    """Gives the Mixture that the config names; ours is made here, with a Task for each source.

    A Task of a source's name that a user's module has registered is left alone: its token dataset
    is what is trained on. What an earlier call registered is replaced.

    Returns:
      The Mixture that the config names.

    Raises:
      InputError: no rate is above 0, a source has no token dataset, or nobody registered the
        Mixture.
    """
    if config.mixture != OURS:
        if config.mixture not in seqio.MixtureRegistry.names():
            raise InputError(
                f"no seqio Mixture {config.mixture}; --import the module that registers it, or "
                f"set MixtureConfig.mixture to {OURS}"
            )
        return seqio.MixtureRegistry.get(config.mixture)
    rates = {name: rate for name, rate in config.rates.items() if rate}
    quotas(rates)  # refuses what no block of samples can hold
    for name in rates:
        _register_task(name, source_folder(config.tokens_dir, name))
    seqio.MixtureRegistry.remove(OURS)
    return seqio.MixtureRegistry.add(OURS, list(rates.items()))


def rates_of(config: MixtureConfig) -> dict[str, float]:
    """Returns the rate of each Task of the Mixture that the config names.

    Raises:
      InputError: see register_sources.
    """
    mixture = register_sources(config)
    return {task.name: mixture.get_rate(task) for task in mixture.tasks}


def _register_task(name: str, folder: str) -> None:
    if name in seqio.TaskRegistry.names():
        if not isinstance(seqio.TaskRegistry.get(name).source, TokenDataSource):
            return
        seqio.TaskRegistry.remove(name)
    vocabulary = WelmVocabulary(os.fspath(epath.Path(folder).parent / TOKENIZER_FILE))
    seqio.TaskRegistry.add(
        name,
        source=TokenDataSource(folder),
        preprocessors=[],
        output_features={"targets": seqio.Feature(vocabulary, add_eos=False)},
    )
