"""What curation costs: beside datatrove, beside its own kernels without Beam, and in memory.

    python -m benchmarks.curation --raw_dir my_corpus      # eight minutes of one core

Needs `pip install datatrove regex 'xxhash<4'`. All seconds are processor time of one process, which
other programs disturb least; the two sides alternate, and a ratio is of one round.

1. datatrove on the same Chinese documents in memory: rules (each side's own, not the same), exact
   key and 128 hashes for MinHash (ours makes 64 more, to verify by), each over every document. What
   could be chosen is the cheaper for datatrove: bare calls of its blocks, no statistics or files;
   an end at the first failing rule of a filter, where ours measures all; the exact key of the raw
   text, where ours drops blanks and marks; no sentence splitter in C4; a Han character as a word,
   for its own words of Chinese (`--words jieba`, needs spacy and jieba) take several times as long.
   Thresholds that no Chinese passes are opened. Its language filter downloads a model, so the ratio
   has none on either side; ours with it is told beside.
2. The real pipeline on FnApiRunner, from raw files to written documents, beside its kernels in a
   plain loop: reading, judging, making keys. What it does beyond them is what is measured: setting
   aside, bringing keys together, the second pass, writing, Beam itself.
3. Peak memory, and seconds less those of a hundred documents, of `python -m beam_pipelines.curate`
   on 1, 3 and 10 copies of the Chinese documents, a file each. They are no duplicates: each has its
   Han characters exchanged by another permutation.
"""

import contextlib
import gc
import io
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rich.console import Console
from rich.table import Table

from beam_pipelines import boilerplate, clean_rules, curate, dedup, document_passes, filters
from beam_pipelines.characters import Kind, TextBatch
from beam_pipelines.document import Document
from beam_pipelines.language import identify_languages
from beam_pipelines.ledger import Ledger
from beam_pipelines.near_signatures import SIGNATURES
from beam_pipelines.read_sources import Record, RecordReader, list_inputs
from benchmarks import bars
from welm_jax.failures import ArgumentParser, InputError, require_positive, run_door

LANGUAGES = ("zh", "en", "ja", "ko")
FILTERS = filters.FilterConfig(languages=LANGUAGES)
CHAIN = ("rules", "exact key", "MinHash")
COPIES = (1, 3, 10)
FEW = 100  # documents, for warming up and for the start-up
HAN = range(0x4E00, 0xA000)
# In an interpreter that holds nothing: a child's peak begins at its parent's.
MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))  # KiB on Linux
"""


def sample(raw_dir: str, size: float) -> list[Record]:
    """Draws documents, most of whose visible characters are Han, up to a size in bytes of text."""
    read = (record for file in list_inputs(raw_dir, {}) for record in RecordReader(file))
    records = [record for record in read if isinstance(record.outcome, Document)]
    random.Random(0).shuffle(records)
    chinese = []
    for batch in document_passes.batches(records):
        texts = TextBatch.of([record.outcome.text for record in batch])
        han = texts.kinds[:, Kind.HAN]
        mostly = np.flatnonzero((han >= 10) & (2 * han > texts.visible))
        chinese += [batch[index] for index in mostly]
    sizes = np.cumsum([len(record.outcome.text.encode()) for record in chinese])
    drawn = chinese[: np.searchsorted(sizes, size) + 1]
    if len(drawn) < 2 * FEW:
        raise InputError(f"{raw_dir} holds {len(drawn)} Chinese documents: give {2 * FEW} or more")
    return drawn


@contextlib.contextmanager
def clocked(spent: Counter, stage: str) -> Iterator[None]:
    """Adds the processor time of what is done within."""
    started = time.process_time()
    yield
    spent[stage] += time.process_time() - started


def ours(records: Sequence[Record]) -> Counter:
    """Takes documents through our stages, in the pipeline's batches; gives seconds by stage."""
    spent, minhash = Counter(), SIGNATURES["minhash"]

    def sign(*texts):
        with clocked(spent, "MinHash"):
            return minhash.sign(*texts)

    signature = SimpleNamespace(bands=minhash.bands, sketch=minhash.sketch, sign=sign)
    for batch in document_passes.batches(records):
        texts = [record.outcome.text for record in batch]
        ids = [record.outcome.doc_id for record in batch]
        with clocked(spent, "language"):
            identify_languages(texts, "script")
        with clocked(spent, "rules"):
            texts = boilerplate.without_boilerplate_lines(texts)
            clean_rules.apply_rules(texts, clean_rules.Thresholds())
        with clocked(spent, "exact key"):
            dedup.make_keys(texts, ids, 0, 0, signature)
    spent["exact key"] -= spent["MinHash"]  # make_keys makes both
    return spent


class Datatrove:
    """The peer's own blocks, called as they are for one document after the other."""

    def __init__(self, words: str, folder: str):
        try:
            from datatrove import data
            from datatrove.pipeline import filters as rules
            from datatrove.pipeline.dedup import exact_dedup, minhash
        except ModuleNotFoundError as error:
            raise InputError(f"{error}; the peer is missing: pip install datatrove") from error
        language = _characters() if words == "characters" else "cmn"
        # Its words are between blanks and its end marks are ASCII: no Chinese line has either.
        blanks = {"filter_no_terminal_punct": False, "min_words_per_line": -1}
        stop = {"min_avg_word_length": 1, "stop_words": list("的了是在不一有和我之")}
        self._rules = [
            rules.C4QualityFilter(min_num_sentences=-1, **blanks),
            rules.GopherRepetitionFilter(language=language),
            rules.GopherQualityFilter(language=language, **stop),
            rules.FineWebQualityFilter(language=language),
        ]
        config = exact_dedup.ExactDedupConfig(content_getter=lambda one: one.text)
        exact = exact_dedup.ExactDedupSignature(folder, config)
        config = minhash.MinhashConfig(num_buckets=16)  # of 8 hashes each
        self._minhash = minhash.MinhashDedupSignature(folder, config, language)
        self._document = data.Document
        steps = (self._judge, partial(exact.get_hashes, doc_idx=0), self._sign)
        self._stages = dict(zip(CHAIN, steps, strict=True))

    def __call__(self, records: Sequence[Record]) -> Counter:
        """Takes documents through the peer's stages; gives seconds by stage."""
        documents = [self._document(one.outcome.text, one.outcome.doc_id) for one in records]
        spent = Counter()
        for stage, step in self._stages.items():
            with clocked(spent, stage):
                for document in documents:
                    step(document)
        return spent

    def _judge(self, document) -> None:
        for rule in self._rules:  # one document after the other: its words are cached
            rule.filter(document)

    def _sign(self, document) -> None:
        shingles = self._minhash.get_shingles(document.text)
        if shingles.size:
            self._minhash.get_signature(shingles)


def _characters():
    """A tokenizer of datatrove's kind: each Han character is a word, and each run between."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Characters(WordTokenizer):
        word_tokenize = staticmethod(re.compile(r"[㐀-鿿]|[^\s㐀-鿿]+").findall)
        sent_tokenize = span_tokenize = None  # nothing here asks for sentences

    return Characters()


def alternated(rounds: int, *ways: Callable) -> list[list]:
    """Calls each way once a round, garbage collected before; gives the rounds."""
    found = [[] for _ in range(rounds)]
    for one in found:
        for way in ways:
            gc.collect()
            one.append(way())
    return found


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; floats with two decimals."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(f"{one:,.2f}" if isinstance(one, float) else str(one) for one in row))
    Console().print(table)


def compare_with_datatrove(records: Sequence[Record], words: str, rounds: int) -> float:
    """Prints the table of the stages; gives how many times as fast ours is over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        ways = (ours, Datatrove(words, folder))
        alternated(1, *(partial(way, records[:FEW]) for way in ways))
        found = alternated(rounds, *(partial(way, records) for way in ways))
    millions = sum(len(record.outcome.text) for record in records) / 1e6
    sums = {"all three": CHAIN, "and language (ours)": ("language", *CHAIN)}
    rows = []
    for name, stages in ({stage: (stage,) for stage in CHAIN} | sums).items():
        spent = [[sum(one[stage] for stage in stages) for one in pair] for pair in found]
        ratios = [peer / mine for mine, peer in spent]
        speeds = [millions / statistics.median(side) for side in zip(*spent, strict=True)]
        rows.append((name, *speeds, statistics.median(ratios), min(ratios), max(ratios)))
    columns = ("M characters/s", "ours", "datatrove", "ratio", "least", "most")
    show(f"{len(records):,} Chinese documents, {millions:.2f} M characters", columns, rows)
    return rows[len(CHAIN)][3]


def kernel_seconds(raw_dir: str) -> float:
    """What reading, judging and making keys take without Beam."""
    started = time.process_time()
    for number, file in enumerate(list_inputs(raw_dir, {})):
        ledger = Ledger()
        for batch in document_passes.batches(RecordReader(file)):
            passed = filters.judge(batch, file.source, ledger, FILTERS)
            texts = [record.outcome.text for record in passed]
            ids = [record.outcome.doc_id for record in passed]
            dedup.make_keys(texts, ids, number, 0, SIGNATURES["minhash"])
    return time.process_time() - started


def pipeline_seconds(raw_dir: str) -> float:
    """What curation takes on Beam's default runner, in this process."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        config = curate.CurationConfig(raw_dir=raw_dir, output_dir=f"{folder}/curated")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            started = time.process_time()
            curate.curate(config, FILTERS)
            return time.process_time() - started


def compare_with_kernels(raw_dir: str, few: Sequence[Record], rounds: int) -> float:
    """Prints what Beam and the other steps add; gives the pipeline's share of kernel speed."""
    identify_languages(["\u4e00"], "script")  # loads the model that is asked about grey texts
    ways = (kernel_seconds, pipeline_seconds)
    with tempfile.TemporaryDirectory() as folder:
        write_copy(Path(folder), few, 0)
        alternated(1, *(partial(way, folder) for way in ways))
    found = alternated(rounds, *(partial(way, raw_dir) for way in ways))
    rows = [(kernels, pipeline, kernels / pipeline) for kernels, pipeline in found]
    show("the pipeline on all of raw_dir", ("kernels, s", "pipeline, s", "share"), rows)
    return statistics.median(share for _, _, share in rows)


def write_copy(folder: Path, records: Sequence[Record], copy: int) -> None:
    """Writes documents as one more raw file, their Han characters exchanged for others."""
    exchange = dict(zip(HAN, random.Random(copy).sample(HAN, len(HAN)), strict=True))
    (folder / "web").mkdir(exist_ok=True)
    with (folder / "web" / f"{copy:03d}.jsonl").open("w", encoding="utf-8") as lines:
        for record in records:
            text = record.outcome.text.translate(exchange)
            lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def curated_apart(raw_dir: str, times: int) -> list[float]:
    """Curates in processes of their own; gives median processor seconds and peak memory in MB."""
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "beam_pipelines.curate", f"--gin.RAW_DIR={raw_dir}"]
            command += ["--gin_file", "corpus/quickstart.gin", f"--gin.CURATED_DIR={folder}/out"]
            command += [f"--gin.FilterConfig.languages={LANGUAGES}"]
            told = subprocess.check_output([sys.executable, "-c", MEASURED, *command], text=True)
        found.append(json.loads(told))
    return [statistics.median(column) for column in zip(*found, strict=True)]


def measure_growth(records: Sequence[Record]) -> tuple[float, float]:
    """Prints what larger corpora take; gives the growth of memory and of seconds from 1 to 10."""
    with tempfile.TemporaryDirectory() as few, tempfile.TemporaryDirectory() as corpus:
        write_copy(Path(few), records[:FEW], 0)
        start_up, _ = curated_apart(few, 3)
        rows = []
        for copy in range(max(COPIES)):
            write_copy(Path(corpus), records, copy)
            if copy + 1 in COPIES:
                seconds, peak = curated_apart(corpus, 1 if rows else 3)  # all rests on the first
                more = seconds - start_up
                _, one, _, least, _ = rows[0] if rows else (1, more, 1, peak, 1)
                times = more / one if one > 0 else math.inf
                rows.append((copy + 1, more, times, peak, peak / least))
    show("growth", ("copies", f"s beyond {start_up:.2f}", "times", "peak MB", "times"), rows)
    return rows[-1][4], rows[-1][2]


def show_shuffled() -> None:
    """Prints what of a document meets others: bytes of its records, without what Beam adds."""
    rows = []
    for method, signature in SIGNATURES.items():
        key, bands = dedup.key_type(signature), signature.bands * dedup.BAND.itemsize
        rows.append((method, key.itemsize, bands, dedup.sketch_type(signature).itemsize))
    show("shuffled bytes per document", ("method", "key", "bands", "sketch, twice"), rows)


def main(arguments: Sequence[str]) -> int:
    """Measures everything, prints tables and bars, and returns the exit status."""
    parser = ArgumentParser(prog="curation", description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", required=True, help="a corpus, as curation takes it")
    parser.add_argument("--megabytes", type=float, default=8, help="of Chinese text to draw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", choices=("characters", "jieba"), default="characters")
    options = parser.parse_args(arguments)
    require_positive(options, "rounds")
    records = sample(options.raw_dir, options.megabytes * 1e6)
    times = compare_with_datatrove(records, options.words, options.rounds)
    share = compare_with_kernels(options.raw_dir, records[:FEW], options.rounds)
    memory, seconds = measure_growth(records)
    show_shuffled()
    measured = (
        ("curation_times_datatrove", round(times, 2), ">= 3"),
        ("pipeline_share_of_kernel_speed", round(share, 3), ">= 0.6"),
        ("memory_at_10_times_the_corpus", round(memory, 2), "<= 1.3"),
        ("seconds_at_10_times_the_corpus", round(seconds, 2), "<= 11"),
    )
    return bars.ended(measured)


if __name__ == "__main__":
    statuses = []  # the door tells only what went wrong
    failed = run_door(lambda given: statuses.append(main(given)), sys.argv[1:], "curation")
    sys.exit(failed or statuses[0])
