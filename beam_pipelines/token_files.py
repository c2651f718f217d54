"""How token rows lie on disk: ArrayRecord files that TFDS reads by number, without TensorFlow.

Beside each lies a table of the documents in it. Deliberately does not know where rows come from or
how they are packed (write_tokens, text.records).
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from beam_pipelines.curated_files import appearing
from welm_jax.text.records import METADATA_FILE, TokenMetadata, TokenShard, row_dtype

FILE_NAMES = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def dataset_name(source: str) -> str:
    """Names a source's dataset as TFDS can: its names begin with a letter."""
    return source if re.match("[a-zA-Z]", source) else f"source_{source}"


def file_name(source: str, split: str, index: int, count: int) -> str:
    """Names one of a split's files as FILE_NAMES says."""
    return f"{dataset_name(source)}-{split}.array_record-{index:05d}-of-{count:05d}"


def row_features(sequence_tokens: int, vocab_size: int) -> tfds.features.FeaturesDict:
    """A row to TFDS: T + 1 little-endian ids; plain bytes read 3.5 times as fast as its default."""
    tokens = tfds.features.Tensor(
        shape=(sequence_tokens + 1,),
        dtype=row_dtype(vocab_size),
        encoding=tfds.features.Encoding.BYTES,
    )
    return tfds.features.FeaturesDict({"tokens": tokens})


def write_rows(
    path: Path, rows: Iterable[np.ndarray], features: tfds.features.FeaturesDict
) -> TokenShard:
    """Writes one file, which appears whole.

    Args:
      path: the file, named by `file_name`.
      rows: [T + 1] ids each; held in memory one at a time.
      features: of `row_features`.
    """
    serializer = ExampleSerializer(features.get_serialized_info())
    dtype, written = features["tokens"].np_dtype, 0
    with appearing(path) as temporary:
        # One row a group, so that it is read without its like.
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        for row in rows:
            example = features.encode_example({"tokens": row.astype(dtype)})
            writer.write(serializer.serialize_example(example))
            written += 1
        writer.close()
    return TokenShard(file=path.name, sha256=_sha256(path), rows=written)


def write_documents(folder: Path, shard: TokenShard, begins: Mapping[int, str]) -> TokenShard:
    """Writes beside a file which document begins where; it appears whole.

    Args:
      folder: where the shard lies.
      shard: of `write_rows`.
      begins: number of a document's first target among the shard's -> its id, in order.

    Returns:
      The shard with the table's name and digest.
    """
    path = folder / (shard.file.replace(".array_record-", ".documents-") + ".npy")
    names = np.array([name.encode() for name in begins.values()], np.bytes_)
    table = np.empty(len(begins), [("begins", "<i8"), ("doc_id", names.dtype)])
    table["begins"], table["doc_id"] = list(begins), names
    with appearing(path) as temporary, temporary.open("wb") as file:
        np.save(file, table)
    return dataclasses.replace(shard, documents_file=path.name, documents_sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, metadata: TokenMetadata) -> None:
    """Makes a folder of written files a TFDS dataset, and says beside it what they hold."""
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.rows for shard in split.shards],
            num_bytes=sum((folder / shard.file).stat().st_size for shard in split.shards),
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name=dataset_name(metadata.source),
                split=name,
                data_dir=folder,
                filetype_suffix="array_record",
                template=FILE_NAMES,
            ),
        )
        for name, split in metadata.splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=row_features(metadata.sequence_tokens, metadata.vocab_size),
        split_infos=infos,
        filename_template=FILE_NAMES,
        check_data=False,
    )
    (folder / METADATA_FILE).write_text(metadata.to_json(), encoding="utf-8")
