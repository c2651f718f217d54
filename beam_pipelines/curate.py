"""The recipe of the corpus: raw text in, documents without noise and duplicates out.

    python -m beam_pipelines.curate --gin_file gin_configs/corpus/quickstart.gin
        [--gin.RAW_DIR=my_corpus] [--gin.CURATED_DIR=my_curated] [Beam's own options]

RAW_DIR/<source>/ with JSONL, text, WET, WARC or Parquet becomes CURATED_DIR/documents, ledger.json
and samples.json. Killed or stopped, the same command goes on with what it had read.
Readable as section 2 of the paper; the only file that knows the order of the stages. One element
is one raw file. Its text is judged where it is read and set aside; small keys alone are shuffled
to find duplicates; then the text that stays is dealt, through files, into shards that do not depend
on how the input was cut. No text passes a shuffle.
"""

import hashlib
import itertools
import json
import pickle
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from rich.console import Console

from beam_pipelines import decontaminate, dedup, evaluation_text, filters
from beam_pipelines.curated_files import (
    ASIDE,
    DEAD_LETTERS,
    DOCUMENTS,
    progress_shown,
    replacing,
)
from beam_pipelines.dealing import Dealing
from beam_pipelines.document import SPLITS, WHOLE_FILE
from beam_pipelines.document_passes import (
    clean_file,
    release_file,
    write_shard,
)
from beam_pipelines.filters import FilterConfig
from beam_pipelines.ledger import Counts, Ledger
from beam_pipelines.near_signatures import SIGNATURES, Signature
from beam_pipelines.read_sources import InputFile, list_inputs, printable
from beam_pipelines.runner import (
    on_worker,
    open_pipeline,
    read_command_line,
    require_local,
    running,
)
from beam_pipelines.text_encoding import require_encoding
from welm_jax.failures import InputError, StopAndLook, require_positive, run_door
from welm_jax.text.records import LEDGER_FILE, SAMPLES_FILE

STAGES = (*filters.STAGES, "exact_duplicates", "near_duplicates", "contamination", "written")
_LIBRARIES = ("numpy", "pyarrow", "fasttext-community", "langdetect", "opencc", "py3langid")
_PART_BYTES = 16 << 20  # raw bytes whose keys meet in one worker's memory
_SLICE_BYTES = 16 << 20  # raw bytes whose texts do


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """What to curate, and how much of it to hold out.

    Attributes:
      raw_dir: the raw corpus, laid out as read_sources.LAYOUT.
      output_dir: the curated corpus; appears when all is done and replaces an earlier one.
      encodings: source -> encoding of its files, where that is not UTF-8; gb18030, for instance.
      max_dead_letters: share of the bytes, and of the records, that may be unreadable, and of the
        files that may be damaged, before nothing is written.
      drops_duplicates: whether duplicates are looked for at all.
      near_duplicates: how they are found: the recommended way, or the paper's.
      evaluation_dir: files of text that must not be in the corpus; none if empty.
      parts_languages: whether documents that are not Chinese go to datasets of their own, named
        <source>_<language>, so that a mixture can choose their share.
      held_out_fraction: share of each source's documents kept from training; at least one is.
      shards: output files per source and split.
    """

    raw_dir: str
    output_dir: str
    encodings: Mapping[str, str] = field(default_factory=dict)
    max_dead_letters: float = 0.01
    drops_duplicates: bool = True
    near_duplicates: Literal["minhash", "simhash"] = "minhash"
    evaluation_dir: str = ""
    parts_languages: bool = False
    held_out_fraction: float = 0.02
    shards: int = 1

    def __post_init__(self):
        for encoding in self.encodings.values():
            require_encoding(encoding)
        if not 0 < self.held_out_fraction < 1:
            raise InputError(f"held_out_fraction {self.held_out_fraction}: set it between 0 and 1")
        require_positive(self, "shards")
        require_local(self.raw_dir, self.output_dir)


def recipe(
    pipeline,
    inputs: Sequence[InputFile],
    config: CurationConfig,
    filter_config: FilterConfig,
    folder: Path,
) -> None:
    """Lays out section 2 of the paper as a Beam pipeline, which leaves its files in `folder`."""
    import apache_beam as beam

    signature = SIGNATURES[config.near_duplicates]
    raw_bytes = sum(raw.path.stat().st_size for raw in inputs)
    clean = partial(
        clean_file,
        judge=partial(filters.judge, config=filter_config),
        signature=signature,
        evaluation_dir=config.evaluation_dir,
        folder=folder,
    )
    dealing = Dealing(
        shards=config.shards,
        held_out_fraction=config.held_out_fraction,
        parts_languages=config.parts_languages,
        slices=1 + raw_bytes // (config.shards * _SLICE_BYTES),
    )
    cleaned = (
        pipeline
        | "raw files" >> beam.Create(list(enumerate(inputs)))
        | "spread over workers" >> beam.Reshuffle()
        | "filters" >> beam.MapTuple(on_worker(clean))
    )
    drops = {"file": cleaned | "files" >> beam.Map(lambda done: (done.file, None))}
    if config.drops_duplicates:
        parts = 1 + raw_bytes // _PART_BYTES
        drops |= find_duplicates(cleaned, parts, signature)
    released = (
        drops
        | "drops of each file" >> beam.CoGroupByKey()
        | "release the rest"
        >> beam.MapTuple(on_worker(partial(release_file, dealing=dealing, folder=folder)))
    )
    datasets = _datasets(inputs, filter_config.languages, dealing)
    written = write_documents(pipeline, released, datasets, dealing, folder)
    ledgers = (
        cleaned | "counts of cleaning" >> beam.Map(lambda done: done.ledger),
        released | "counts of duplicates" >> beam.Map(lambda done: done.ledger),
        written,
    )
    _ = (
        ledgers
        | "all counts" >> beam.Flatten()
        | "ledger" >> beam.CombineGlobally(Ledger.merged)
        | "set it aside"
        >> beam.Map(
            on_worker(lambda ledger: _ledger_file(folder).write_bytes(pickle.dumps(ledger)))
        )
    )


def find_duplicates(cleaned, parts: int, signature: Signature):
    """Shuffles the keys of cleaned files; returns `exact` and `near` drops, as (file, dedup.LOST).

    The more parts the keys are dealt to, the less memory each takes; the result is the same.
    """
    import apache_beam as beam

    exact = (
        cleaned
        | "keys" >> beam.FlatMap(lambda done: dedup.deal_keys(done.keys, parts))
        | "meet by text" >> beam.GroupByKey()
        | "exact duplicates" >> beam.MapTuple(lambda _, keys: dedup.split_exact_duplicates(keys))
    )
    pairs = (
        exact
        | "bands" >> beam.FlatMapTuple(lambda unique, _: dedup.deal_bands(unique, parts))
        | "meet by band" >> beam.GroupByKey()
        | "candidates" >> beam.FlatMapTuple(lambda _, bands: dedup.candidate_pairs(bands, parts))
    )
    sketches = exact | "sketches" >> beam.FlatMapTuple(
        lambda unique, _: dedup.deal_sketches(unique, parts, signature)
    )
    challenges = (
        {"sketches": sketches, "pairs": pairs}
        | "look up the better copy" >> beam.CoGroupByKey()
        | "challenge the other" >> beam.FlatMapTuple(lambda _, met: dedup.challenges(met, parts))
    )
    near = (
        {"sketches": sketches, "challenges": challenges}
        | "look up the other" >> beam.CoGroupByKey()
        | "near duplicates" >> beam.FlatMapTuple(lambda _, met: dedup.lost_to(met, signature))
    )
    repeats = exact | "repeats" >> beam.FlatMapTuple(lambda _, lost: dedup.by_file(lost))
    return {"exact": repeats, "near": near}


def write_documents(
    pipeline, released, datasets: Mapping[str, str], dealing: Dealing, folder: Path
):
    """Brings the released documents of each output shard together; returns what was written."""
    import apache_beam as beam

    extremes = (
        released
        | "held-out draws" >> beam.FlatMap(lambda done: done.held_out_draws)
        | "lowest and highest" >> beam.CombinePerKey(_lowest_and_highest)
    )
    shards = [(dataset, shard) for dataset in datasets for shard in range(dealing.shards)]
    stretches = (
        released | "stretches" >> beam.FlatMap(lambda done: done.stretches),
        pipeline | "every shard, even if empty" >> beam.Create([(one, None) for one in shards]),
    )
    write = on_worker(write_shard)
    return (
        stretches
        | "stretches and shards" >> beam.Flatten()
        | "meet by shard" >> beam.GroupByKey()
        | "write"
        >> beam.Map(
            lambda met, extremes: write(
                datasets[met[0][0]], *met[0], met[1], extremes, dealing, folder
            ),
            beam.pvalue.AsDict(extremes),
        )
    )


def _datasets(
    inputs: Sequence[InputFile], languages: Sequence[str], dealing: Dealing
) -> dict[str, str]:
    """The datasets that there may be, by name, and the source of each."""
    sources = sorted({raw.source for raw in inputs})
    pairs = {(dealing.dataset(one, language), one) for one in sources for language in languages}
    for (name, one), (next_name, other) in itertools.pairwise(sorted(pairs)):
        if name == next_name:
            raise InputError(f"{one} and {other} both have a dataset {name}; rename one of them")
    return dict(sorted(pairs))


def _lowest_and_highest(draws: Iterable[tuple[int, int]]) -> tuple[int, int]:
    lowest, highest = zip(*draws, strict=True)
    return min(lowest), max(highest)


def _files_named(config: CurationConfig, filter_config: FilterConfig) -> dict[str, list[Path]]:
    """The files beside the corpus that decide about texts, by the field that names them."""
    names = ("offensive_words", "classifier", "topics")
    files = {name: [Path(getattr(filter_config, name))] for name in names}
    files = {name: mine for name, mine in files.items() if mine != [Path()]}
    if config.evaluation_dir:
        files["evaluation_dir"] = evaluation_text.evaluation_files(config.evaluation_dir)
    return files


def _asked(config: CurationConfig, filter_config: FilterConfig, inputs: Sequence[InputFile]) -> str:
    """All that the first pass depends on: a job goes on only if none of it changed."""
    named = _files_named(config, filter_config).values()
    files = [raw.path for raw in inputs] + [file for mine in named for file in mine]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    first_pass = (config.encodings, config.near_duplicates, asdict(filter_config), stats)
    sources = sorted(Path(__file__).parent.glob("*.py"))
    code = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sources]
    return json.dumps([first_pass, code, [(name, version(name)) for name in _LIBRARIES]])


def _said(config: CurationConfig, filter_config: FilterConfig) -> dict[str, Any]:
    """What was asked for, as the ledger says it: files by their content, no place of any."""
    both = asdict(config) | asdict(filter_config)
    said = {name: value for name, value in both.items() if name[-4:] != "_dir"}
    for name, files in _files_named(config, filter_config).items():
        said[name] = hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()
    if config.evaluation_dir:  # texts of which no run can count
        said["too_short_to_find"] = decontaminate.read_index(config.evaluation_dir).too_short
    return said


def _check_dead_letters(ledger: Ledger, allowed: float, folder: Path) -> None:
    """Stops where too much could not be read, naming the file that lost most; else names sources.

    Bytes, records and files are weighed each: rows of Parquet without a text have no bytes, and of
    a file that ends early nobody knows how much is missing.
    """
    totals = {source: ledger.totals(source, STAGES) for source in ledger.sources}
    whole = {
        kind: Counts.total(one[kind] for one in totals.values())
        for kind in ("read", "dead_lettered")
    }
    letters = [
        json.loads(line)
        for file in sorted((folder / DEAD_LETTERS).glob("*"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    damaged = {letter["file"] for letter in letters if letter["reason"] in WHOLE_FILE}
    of_bytes, of_records = _unreadable_shares(whole)
    if max(of_bytes, of_records, len(damaged) / max(len(ledger.inputs), 1)) > allowed:
        worst = _worst_file(letters)
        raise StopAndLook(
            f"{of_bytes:.1%} of the bytes and {of_records:.1%} of the records cannot be read, and "
            f"{len(damaged)} of {len(ledger.inputs)} files are damaged; "
            "CurationConfig.max_dead_letters "
            f"allows {allowed:.1%} of each: most of all in {printable(worst[0]['file'])} "
            f"(dead letters: {len(worst):,}, of {sum(letter['length'] for letter in worst):,} "
            f"bytes, the first at offset {worst[0]['offset']:,}: {worst[0]['reason']}); "
            "mend it, or allow more; nothing was written"
        )
    for source, of_source in totals.items():
        files = {name for name, file in ledger.inputs.items() if file["source"] == source}
        share = max(*_unreadable_shares(of_source), len(damaged & files) / max(len(files), 1))
        if share > allowed:
            text = f"{source}: {share:.1%} of its bytes, records or files cannot be read"
            print(f"{text}, see {DEAD_LETTERS}", file=sys.stderr)


def _worst_file(letters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The dead letters of the file that lost most."""
    by_file: dict[str, list[Mapping[str, Any]]] = {}
    for letter in letters:
        by_file.setdefault(letter["file"], []).append(letter)

    def loss(of_file: list[Mapping[str, Any]]) -> tuple[int, int, int]:
        whole = sum(letter["reason"] in WHOLE_FILE for letter in of_file)
        return whole, sum(letter["length"] for letter in of_file), len(of_file)

    return max(by_file.values(), key=loss)


def _unreadable_shares(totals: Mapping[str, Counts]) -> tuple[float, float]:
    """The shares of the bytes and of the records that are dead letters."""
    read, lost = totals["read"], totals["dead_lettered"]
    return lost.bytes / max(read.bytes, 1), lost.documents / max(read.documents, 1)


def _remove_empty(documents: Path, sources: Sequence[str]) -> None:
    """Removes the datasets of languages in which a source has nothing."""
    for dataset in sorted(documents.iterdir()):
        files = [] if dataset.name in sources else sorted(dataset.iterdir())
        if files and not any(pq.read_metadata(file).num_rows for file in files):
            shutil.rmtree(dataset)


def _ledger_file(folder: Path) -> Path:
    return folder / ASIDE / "ledger.pickle"


def curate(
    config: CurationConfig, filter_config: FilterConfig, beam_arguments: Sequence[str] = ()
) -> None:
    """Curates a corpus and prints its ledger.

    Args:
      config: what to do.
      filter_config: what a text must be like.
      beam_arguments: Beam's own options; without --runner the work is done in this process.

    Raises:
      InputError: the corpus, the output folder or an option cannot be used, or no document is
        kept; nothing is written.
      StopAndLook: too much cannot be read, or the ledger does not add up; nothing is written.
    """
    inputs = list_inputs(config.raw_dir, config.encodings)
    sources = sorted({raw.source for raw in inputs})
    if unknown := sorted(filter_config.rules.keys() - {*sources, filters.EVERY_SOURCE}):
        known = ", ".join(sources)
        print(f"rules for {', '.join(unknown)}: no such source; there are {known}", file=sys.stderr)
    if config.evaluation_dir and (unread := evaluation_text.unread_files(config.evaluation_dir)):
        print(unread, file=sys.stderr)
    pipeline = open_pipeline(beam_arguments)
    output = Path(config.output_dir).absolute()
    asked = _asked(config, filter_config, inputs)
    with replacing(output, f"{DOCUMENTS}/*/train-*.parquet", asked) as folder:
        datasets = len(sources) * (len(filter_config.languages) if config.parts_languages else 1)
        pattern, outputs = "[!.]*.parquet", datasets * config.shards * len(SPLITS)
        stages = (
            ("raw files read and cleaned", folder / ASIDE, pattern, len(inputs)),
            ("files of documents written", folder / DOCUMENTS, pattern, outputs),
        )
        with progress_shown(*stages), running(pipeline):
            recipe(pipeline, inputs, config, filter_config, folder)
        ledger = pickle.loads(_ledger_file(folder).read_bytes())
        Console().print(ledger.to_table(STAGES))
        ledger.check(STAGES)
        _check_dead_letters(ledger, config.max_dead_letters, folder)
        empty = [s for s in sources if not ledger.totals(s, STAGES)["kept"].documents]
        if empty == sources:
            raise InputError(
                "no document is kept (the reasons are above): change the files or the languages"
            )
        for source in empty:
            print(f"{source}: no document is kept (the reasons are above)", file=sys.stderr)
        _remove_empty(folder / DOCUMENTS, sources)
        content = ledger.to_json(STAGES, _said(config, filter_config))
        (folder / LEDGER_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        samples = json.dumps(ledger.samples_json(), indent=1, ensure_ascii=False)
        (folder / SAMPLES_FILE).write_text(samples + "\n", encoding="utf-8")
        shutil.rmtree(folder / ASIDE)
    print(f"{config.output_dir}: documents and {LEDGER_FILE}, digest {content['digest']}")


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's docstring."""
    configs, _, beam_arguments = read_command_line(
        "beam_pipelines.curate", __doc__, arguments, ("CurationConfig", "FilterConfig"), {}
    )
    curate(configs["CurationConfig"], configs["FilterConfig"], beam_arguments)


if __name__ == "__main__":
    # Under its own name: what Beam sends to workers must not be called __main__.
    from beam_pipelines.curate import main as named_main

    sys.exit(run_door(named_main, sys.argv[1:], "curate"))
