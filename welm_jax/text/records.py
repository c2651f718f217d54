"""The token record: documents to rows of ids and back, and what a token dataset says of itself.

Owns the packing and `token_metadata.json`. Deliberately does not know the file format that holds
the rows (beam_pipelines.write_tokens, data.token_dataset), nor shuffling or batches.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from welm_jax.failures import InputError

FORMAT = 1
METADATA_FILE = "token_metadata.json"
# Beside the datasets of all sources: copies of what made them.
TOKENIZER_FILE, LEDGER_FILE, SAMPLES_FILE = "tokenizer.model", "ledger.json", "samples.json"


def row_dtype(vocab_size: int) -> np.dtype:
    """The smallest stored type that holds every id: uint16, or int32 from 65,537 ids on."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.int32)


def pack(
    documents: Iterable[Sequence[int]], sequence_tokens: int, eod_id: int, pad_id: int
) -> Iterator[np.ndarray]:
    """Packs documents into rows, so that every token and every end is a target exactly once.

    The stream is `eod, document, eod, document, eod, ...`; its first id is context only. A row
    takes T + 1 ids and the next begins with the row's last, so T of them are targets. Documents
    are split at row ends, never trimmed; the last row is filled with pad_id.

    Args:
      documents: ids of whole documents, without their end; none may hold pad_id or eod_id.
      sequence_tokens: T, targets in a row.
      eod_id: ends each document.
      pad_id: fills the last row.

    Yields:
      Rows of T + 1 ids, [T + 1], int64; none if there is no document.

    Source: WeLM trains on sequences of 2,048; the paper is silent about document ends.
    """
    stream = [eod_id]
    for document in documents:
        stream += [*document, eod_id]
        starts = range(0, len(stream) - sequence_tokens, sequence_tokens)
        for start in starts:
            yield np.array(stream[start : start + sequence_tokens + 1])
        stream = stream[len(starts) * sequence_tokens :]
    if len(stream) > 1:
        yield np.array(stream + [pad_id] * (sequence_tokens + 1 - len(stream)))


def unpack(rows: Iterable[np.ndarray], eod_id: int, pad_id: int) -> Iterator[np.ndarray]:
    """Gives back the documents that `pack` was given.

    Args:
      rows: all rows of one stream, in order.
      eod_id: as it was packed.
      pad_id: as it was packed.

    Yields:
      The ids of each document without its end, [N]; N may be 0.
    """
    begun: list[np.ndarray] = []
    for row in rows:
        targets = row[1:][row[1:] != pad_id]
        start = 0
        for end in np.flatnonzero(targets == eod_id):
            yield np.concatenate([*begun, targets[start:end]])
            begun, start = [], end + 1
        begun.append(targets[start:])


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """One file of a token dataset: one stream of its own.

    Attributes:
      file: name inside the dataset's folder.
      sha256: hex digest of the file.
      rows: records in it.
      documents_file: beside it, which document begins where: a NumPy array with the fields
        `begins` (number of the document's first target among the shard's targets, ascending) and
        `doc_id`. None in datasets written before it was kept.
      documents_sha256: hex digest of that file.
    """

    file: str
    sha256: str
    rows: int
    documents_file: str | None = None
    documents_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class TokenSplit:
    """What one split of a token dataset holds.

    Attributes:
      documents: how many were packed.
      tokens: targets, that is all tokens of all documents and one end for each.
      characters: code points of the documents' text, for bits per character.
      rows: records in all shards.
      shards: the files, in order.
    """

    documents: int
    tokens: int
    characters: int
    rows: int
    shards: Sequence[TokenShard]

    @classmethod
    def merged(cls, parts: Sequence["TokenSplit"]) -> "TokenSplit":
        """Adds up parts of a split, their shards in the order given."""
        return cls(
            documents=sum(part.documents for part in parts),
            tokens=sum(part.tokens for part in parts),
            characters=sum(part.characters for part in parts),
            rows=sum(part.rows for part in parts),
            shards=tuple(shard for part in parts for shard in part.shards),
        )


@dataclass(frozen=True, kw_only=True)
class TokenMetadata:
    """What a token dataset says of itself, in `token_metadata.json` beside its files.

    Attributes:
      source: the source's name, which is the folder's too.
      tokenizer_sha256: digest of the model file that made the ids.
      vocab_size: every id is below it.
      sequence_tokens: T; a row holds T + 1 ids.
      eod_id: ends each document.
      pad_id: fills the last row of a shard.
      ledger_digest: sha256 of the curation ledger that vouches for the text; none for a Task.
      splits: "train", and "heldout" where documents were held out.
      format: version of this layout.
    """

    source: str
    tokenizer_sha256: str
    vocab_size: int
    sequence_tokens: int
    eod_id: int
    pad_id: int
    ledger_digest: str | None
    splits: Mapping[str, TokenSplit]
    format: int = FORMAT

    def to_json(self) -> str:
        """Writes it as indented JSON; the same metadata always gives the same text."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "TokenMetadata":
        """Reads what `to_json` wrote.

        Args:
          text: the file's content.
          where: its path, for the error.

        Raises:
          InputError: it is damaged, of another format, or contradicts itself.
        """
        try:
            fields = json.loads(text)
            if fields["format"] != FORMAT:
                raise ValueError(f"format {fields['format']} where {FORMAT} is known")
            for name, split in fields["splits"].items():
                shards = tuple(TokenShard(**shard) for shard in split.pop("shards"))
                fields["splits"][name] = TokenSplit(**split, shards=shards)
                if split["rows"] != sum(shard.rows for shard in shards):
                    raise ValueError(f"{name} has {split['rows']} rows, its shards have others")
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{where} is damaged or not ours ({error}); write the dataset again with "
                "python -m beam_pipelines.write_tokens"
            ) from error
