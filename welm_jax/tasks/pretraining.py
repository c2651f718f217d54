"""The mixture: a seqio Task per source, rates from gin, compiled to the mixture.json that trains.

Owns the rates' way from config to quotas. Once compiled, training needs no seqio: data.batches
executes the file. Deliberately does not know batches or devices.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf
from etils import epath

from welm_jax.data.batches import BLOCK, quotas
from welm_jax.data.token_dataset import TokenDataset, read_metadata
from welm_jax.failures import InputError
from welm_jax.tasks.vocabulary import WelmVocabulary
from welm_jax.text.records import METADATA_FILE, TOKENIZER_FILE, TokenMetadata
from welm_jax.text.sources import OURS, MixtureConfig

# TensorFlow only feeds seqio here; left alone, it would take every GPU's memory from jax.
tf.config.set_visible_devices([], "GPU")

MIXTURE_FORMAT = 1
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
        _register_task(name, _folder(config.tokens_dir, name))
    seqio.MixtureRegistry.remove(OURS)
    return seqio.MixtureRegistry.add(OURS, list(rates.items()))


def compile_mixture(config: MixtureConfig) -> dict[str, Any]:
    """Turns the Mixture that the config names into the content of mixture.json.

    Args:
      config: tokens folder, Mixture, rates, seed.

    Returns:
      `format`, `mixture`, `rates` as declared, `seed`, `sequence_tokens`, `vocab_size`,
      `tokenizer_sha256`, `block` and, by name, `sources` of `name`, `folder`, `quota` (samples in
      a block), `rows` and `fingerprint` (sha256 of its token_metadata.json).

    Raises:
      InputError: what register_sources refuses, or two sources made by different tokenizers or
        with rows of different lengths; names both.
    """
    mixture = register_sources(config)
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    samples = quotas(rates)
    folders = {name: _folder(config.tokens_dir, name) for name in samples}
    known = {name: read_metadata(folder) for name, folder in folders.items()}
    first = _agreed({name: metadata for name, (metadata, _) in known.items()})
    return {
        "format": MIXTURE_FORMAT,
        "mixture": config.mixture,
        "rates": rates,
        "seed": config.seed,
        "sequence_tokens": first.sequence_tokens,
        "vocab_size": first.vocab_size,
        "tokenizer_sha256": first.tokenizer_sha256,
        "block": BLOCK,
        "sources": [
            {
                "name": name,
                "folder": folders[name],
                "quota": quota,
                "rows": known[name][0].splits["train"].rows,
                "fingerprint": known[name][1],
            }
            for name, quota in samples.items()
        ],
    }


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


def _folder(tokens_dir: str, source: str) -> str:
    """Where a source's token dataset lies; refuses a source that has none."""
    folder = epath.Path(tokens_dir) / source
    if not folder.is_dir():
        files = epath.Path(tokens_dir).glob(f"*/{METADATA_FILE}")
        known = sorted(file.parent.name for file in files)
        near = difflib.get_close_matches(source, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'};"
        raise InputError(
            f"source {source} has a rate but no token dataset in {tokens_dir}; {hint} "
            "set MixtureConfig.rates, or write it with python -m beam_pipelines.write_tokens"
        )
    return os.fspath(folder.resolve())


def _agreed(metadata: Mapping[str, TokenMetadata]) -> TokenMetadata:
    """The metadata that all sources share in what a model depends on."""
    (first_name, first), *others = metadata.items()
    for name, other in others:
        for field in ("tokenizer_sha256", "sequence_tokens"):
            if getattr(first, field) != getattr(other, field):
                raise InputError(
                    f"sources {first_name} and {name} do not go together: {field} is "
                    f"{getattr(first, field)} and {getattr(other, field)}; write both again with "
                    "one tokenizer and one sequence_tokens"
                )
    return first
