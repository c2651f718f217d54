"""The tokenizer: SentencePiece that keeps every character, known by the digest of its model file.

Owns how a vocabulary is trained and how text becomes ids and comes back. Deliberately does not
know where a document ends or how ids become rows (records), nor how text was curated.
"""

import hashlib
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import sentencepiece

from welm_jax.failures import InputError, StopAndLook, require_positive

PAD_ID, EOD_ID, UNKNOWN_ID, BOS_ID = range(4)  # seqio takes 0, 1, 2 for granted
RESERVED_IDS = 4 + 256 + 2  # the controls, one piece per byte, newline and tab

# Losses of SentencePiece as it comes, each measured: it folds widths and ligatures, drops leading
# and double spaces, and turns what it never saw into one unknown id.
LOSSLESS = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "byte_fallback": True,
    "allow_whitespace_only_pieces": True,
    "split_digits": True,
    "user_defined_symbols": ["\n", "\t"],
    "required_chars": "\u2581",  # the blank, even where the text has none
}
# A "sentence" longer than max_sentence_length bytes is skipped without a word, so documents are
# cut to pieces that cannot be.
PIECE_CHARACTERS = 1_000
# The sums of the EM steps are made per thread: another number of threads is another vocabulary.
THREADS = 4
# What SentencePiece writes for a blank: the one character it would lose. Spelt in bytes instead.
SPACE_MARK = "\u2581"
# Characters that are pieces of their own, whatever stands beside them: text is cut there, so that
# the ids of a line depend on that line alone.
APART = re.compile(f"([\n\t{SPACE_MARK}])")
# Scores are multiples of its inverse, and so add up in float32 without rounding as long as a line
# has no more than 2^18 nats, some 50,000 characters: equal splits, as of "......", are then equal
# to every implementation.
SCORE_STEPS = 64
BOUNDARY_MARK = "\u2585"  # a training sentence with this character is skipped without a word
# What Unicode's names of letters begin with -> what we call the script.
SCRIPTS = {
    "CJK": "Chinese",
    "IDEOGRAPHIC": "Chinese",
    "LATIN": "Latin",
    "FULLWIDTH": "Latin",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "HANGUL": "Hangul",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
}
PROBE = " \t\n\r  \u2581\u3000Ｗｅｌｍ\u0000\ufeff微信\U0001f600 "


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What the vocabulary is trained on and how large it is.

    Attributes:
      curated_dir: folder that beam_pipelines.curate wrote.
      model_file: where the SentencePiece model goes.
      vocab_size: number of ids, the reserved ones included. The paper: 62,000.
      sample_bytes: UTF-8 bytes of text to train on, balanced over the sources.
      character_coverage: share of the sample's characters that get a piece of their own, 0.98 to
        1; the rest is spelt in bytes. Lower it for a small vocabulary: Han alone has thousands.
    """

    curated_dir: str
    model_file: str
    vocab_size: int
    sample_bytes: int = 6_000_000
    character_coverage: float = 0.9995

    def __post_init__(self):
        if self.vocab_size <= RESERVED_IDS:
            raise InputError(
                f"vocab_size {self.vocab_size}: {RESERVED_IDS} ids are reserved; "
                f"set TokenizerConfig.vocab_size above {RESERVED_IDS}"
            )
        require_positive(self, "sample_bytes")
        if not 0.98 <= self.character_coverage <= 1:
            raise InputError(
                f"character_coverage {self.character_coverage} is not between 0.98 and 1; "
                "set TokenizerConfig.character_coverage to 0.9995"
            )


class Piece(NamedTuple):
    """An entry of a vocabulary.

    Attributes:
      text: what it stands for in a text, or its name.
      score: its log-probability in the unigram model.
      kind: text, one byte of it, or a control or the unknown, which no text has.
    """

    text: str
    score: float
    kind: Literal["text", "byte", "control"]


class Tokenizer:
    """Text to ids and back: `decode(encode(text)) == text` for all text that UTF-8 can hold.

    Attributes:
      model_file: the file it was read from.
      sha256: hex digest of that file. SentencePiece notices no flipped bit, so this is what names
        a vocabulary, in token datasets and in checkpoints.
      vocab_size: number of ids.
      pad_id: 0; never in text.
      eod_id: 1, the end of a document; never in text either, not even for a literal "</s>".
      unknown_id: 2; no text encodes to it.
    """

    def __init__(self, model_file: str | os.PathLike):
        self.model_file = str(model_file)
        try:
            # A path of another kind, such as etils.epath's, stays what it is.
            model = (Path(model_file) if isinstance(model_file, str) else model_file).read_bytes()
        except OSError as error:
            raise InputError(
                f"tokenizer {model_file} cannot be read ({error.strerror}); "
                "make it with `welm train_tokenizer`"
            ) from error
        self.sha256 = hashlib.sha256(model).hexdigest()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            to_id = self._processor.piece_to_id
            self._apart = {character: [to_id(character)] for character in "\n\t"}
            self._apart[SPACE_MARK] = [to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
            whole = self.decode(self.encode(PROBE)) == PROBE
        except RuntimeError as error:
            raise InputError(
                f"tokenizer {model_file} is no SentencePiece model, or a cut one "
                f"({len(model)} bytes); make it again with `welm train_tokenizer`"
            ) from error
        self.vocab_size = self._processor.get_piece_size()
        self.pad_id, self.eod_id = self._processor.pad_id(), self._processor.eos_id()
        self.unknown_id = UNKNOWN_ID
        if not whole or (self.pad_id, self.eod_id) != (PAD_ID, EOD_ID):
            raise InputError(
                f"tokenizer {model_file} loses characters or has other control ids than "
                f"pad {PAD_ID}, end {EOD_ID}; make one with `welm train_tokenizer`"
            )

    def encode(self, text: str) -> list[int]:
        """Gives the ids of a text, without any end of document.

        Args:
          text: any text; its blanks, tabs and newlines are kept as they are.

        Returns:
          Ids from 4 up; none for an empty text.

        Raises:
          InputError: the text holds half of a surrogate pair, which no UTF-8 can hold.
        """
        refuse_surrogates(text)
        ids: list[int] = []
        for part in APART.split(text):
            ids += self._apart.get(part) or self._processor.encode(part)
        return ids

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Gives the text of ids; control ids are silent, bytes that are no UTF-8 become U+FFFD."""
        return self._processor.decode([int(token) for token in ids])

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the UTF-8 of a text; nothing for a control id."""
        if self._processor.is_byte(token):
            return bytes([int(self._processor.id_to_piece(token)[3:5], 16)])
        if self._processor.is_control(token) or self._processor.is_unknown(token):
            return b""
        return self._processor.id_to_piece(token).replace(SPACE_MARK, " ").encode()

    def pieces(self) -> list[Piece]:
        """The vocabulary, a piece for each id."""
        read = self._processor

        def piece(token: int) -> Piece:
            text = read.id_to_piece(token).replace(SPACE_MARK, " ")
            kind = "byte" if read.is_byte(token) else "text"
            if read.is_control(token) or read.is_unknown(token):
                kind = "control"
            return Piece(text, read.get_score(token), kind)

        return [piece(token) for token in range(self.vocab_size)]


def pieces_by_script(pieces: Iterable[Piece]) -> dict[str, int]:
    """Counts pieces by the script of their first letter, the most frequent first.

    The paper has 30,000 Chinese pieces of 62,000.
    """
    counts = Counter(_script(piece) for piece in pieces if piece.kind == "text")
    return dict(counts.most_common())


def _script(piece: Piece) -> str:
    letter = next(filter(str.isalpha, piece.text), None)
    if letter is None:
        return "no letter"
    name = unicodedata.name(letter, "").partition(" ")[0]  # as in CJK UNIFIED IDEOGRAPH-4E2D
    return SCRIPTS.get(name, "other scripts")


def refuse_surrogates(text: str) -> None:
    """Refuses a text that no UTF-8 can hold.

    Raises:
      InputError: names the place.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds a lone surrogate, {text[error.start]!r} at character "
            f"{error.start}; drop or replace it where the text is read"
        ) from error


def refuse_other_size(config: TokenizerConfig) -> None:
    """Refuses to train where a model of another size lies, which token datasets may belong to.

    Raises:
      InputError: says what lies there.
    """
    if Path(config.model_file).exists():
        size = Tokenizer(config.model_file).vocab_size
        if size != config.vocab_size:
            raise InputError(
                f"{config.model_file} has {size:,} pieces, not {config.vocab_size:,}, and token "
                "datasets may have been written with it; give another --gin.TOKENIZER, or remove "
                "the file first"
            )


def train_tokenizer(
    texts: Iterable[str], model_file: str | os.PathLike, config: TokenizerConfig
) -> Tokenizer:
    """Trains a unigram vocabulary on all of the texts and writes its model file.

    Args:
      texts: whole documents or parts of them; held in memory.
      model_file: where the model goes; replaced only when training has succeeded.
      config: the vocabulary's size and coverage.

    Returns:
      The tokenizer, read back from the file.

    Raises:
      InputError: no text, or a vocabulary too large or too small for it; says what fits.

    Source: WeLM's tokenizer is SentencePiece with 62,000 pieces that keeps all whitespace and tabs
    without normalization; the unigram model and the other options are ours.
    """
    # A list: an error inside an iterator would reach us as SentencePiece's own.
    pieces = [piece for text in texts for piece in _pieces(text)]
    if not pieces:
        raise InputError("there is no text to train a tokenizer on; look at the curation ledger")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(pieces),
            model_writer=model,
            model_type="unigram",
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            # Half the time of the default 1,000,000 candidates, and no more tokens.
            seed_sentencepiece_size=10 * config.vocab_size,
            max_sentence_length=4 * PIECE_CHARACTERS,
            num_threads=THREADS,
            pad_id=PAD_ID,
            eos_id=EOD_ID,
            unk_id=UNKNOWN_ID,
            bos_id=BOS_ID,
            minloglevel=3,
            **LOSSLESS,
        )
    except RuntimeError as error:
        said = str(error).rpartition("] ")[2]  # after the place in its source
        raise InputError(
            f"vocab_size {config.vocab_size} does not fit this text: {said} Change "
            "TokenizerConfig.vocab_size or .character_coverage, or give more text"
        ) from error
    path = Path(model_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(_with_round_scores(model.getvalue()))
    partial.replace(path)
    return Tokenizer(path)


def _with_round_scores(model: bytes) -> bytes:
    """The same vocabulary with scores as SCORE_STEPS says."""
    # Here, not above: whoever only encodes needs no protobuf.
    from sentencepiece import sentencepiece_model_pb2

    vocabulary = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in vocabulary.pieces:
        piece.score = round(piece.score * SCORE_STEPS) / SCORE_STEPS
    return vocabulary.SerializeToString()


def document_files(curated_dir: str | os.PathLike, split: str) -> dict[str, list[Path]]:
    """Lists the Parquet files of one split of curated documents, by source.

    Raises:
      InputError: no training documents in the folder.
    """
    documents = Path(curated_dir) / "documents"
    if not any(documents.glob("*/train-*.parquet")):
        raise InputError(
            f"no documents/<source>/train-*.parquet in {curated_dir}; "
            "run python -m beam_pipelines.curate first, or set CURATED_DIR to its output"
        )
    sources = sorted(folder for folder in documents.iterdir() if folder.is_dir())
    return {folder.name: sorted(folder.glob(f"{split}-*.parquet")) for folder in sources}


def document_texts(file: Path) -> Iterator[str]:
    """Yields the text of each document of a Parquet file.

    Raises:
      StopAndLook: the file is damaged.
    """
    import pyarrow.parquet  # here, not above: whoever only encodes needs no pyarrow

    try:
        with pyarrow.parquet.ParquetFile(file) as documents:
            for batch in documents.iter_batches(batch_size=256, columns=["text"]):
                yield from batch.column("text").to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        what = str(error).partition("\n")[0]
        raise StopAndLook(f"{file} is damaged ({what}); curate again") from error


def sample_texts(curated_dir: str | os.PathLike, max_bytes: int) -> Iterator[str]:
    """Yields training text of curated documents, as evenly over the sources as they last.

    The next piece always comes from the source that has given least, so a source that runs dry
    leaves its share to the others. Within a source it goes from the first shard on: curation has
    dealt the documents to the shards by chance. Held-out documents are never read.

    Args:
      curated_dir: folder that beam_pipelines.curate wrote.
      max_bytes: where to stop, in UTF-8 bytes; passed by less than one piece.

    Yields:
      Pieces of documents, at most 1,000 characters each.

    Raises:
      InputError: no training documents in the folder.
      StopAndLook: a file is damaged.
    """
    readers = {
        source: (
            piece for file in files for text in document_texts(file) for piece in _pieces(text)
        )
        for source, files in document_files(curated_dir, "train").items()
    }
    given = dict.fromkeys(readers, 0)
    while readers and sum(given.values()) < max_bytes:
        poorest = min(readers, key=given.__getitem__)
        piece = next(readers[poorest], None)
        if piece is None:
            del readers[poorest]
            continue
        given[poorest] += len(piece.encode())
        yield piece


def _pieces(text: str) -> Iterator[str]:
    for part in text.split(BOUNDARY_MARK):
        for start in range(0, len(part), PIECE_CHARACTERS):
            yield part[start : start + PIECE_CHARACTERS]
