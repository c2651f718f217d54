"""The recipe of the corpus: raw text in, documents without noise and duplicates out.

Readable as section 2 of the paper; the only file that knows the order of the stages, and the only
one that knows Beam. One element is one raw file. Its text is judged where it is read and set
aside; small keys alone are shuffled to find duplicates; then the text that stays passes the one
shuffle of text, into shards that do not depend on how the input was cut into files.
"""

import json
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from beam_pipelines import dedup
from beam_pipelines.clean_rules import RuleThresholds, apply_rules
from beam_pipelines.curated_files import ASIDE, LEDGER, progress_shown, replacing
from beam_pipelines.data_card import Ledger
from beam_pipelines.document import DropReason
from beam_pipelines.document_passes import (
    ASIDE_SCHEMA,
    SPLITS,
    Dealing,
    clean_file,
    release_file,
    write_shard,
)
from beam_pipelines.language import LANGUAGES, identify_languages
from beam_pipelines.read_sources import InputFile, Record, list_inputs
from beam_pipelines.runner import open_pipeline
from welm_jax import gin_files
from welm_jax.configurables import CORPUS
from welm_jax.failures import InputError, run_door

USAGE = """usage: python -m beam_pipelines.curate --gin_file FILE [--gin.NAME=VALUE]... [BEAM'S OWN]

Curates RAW_DIR/<source>/*.jsonl and *.txt (.gz) into CURATED_DIR/documents and its ledger.json.

example:
  python -m beam_pipelines.curate --gin_file gin_configs/corpus/quickstart.gin \\
      --gin.RAW_DIR=my_corpus --gin.CURATED_DIR=my_corpus_curated
"""
STAGES = ("read", "language", "rules", "exact_duplicates", "near_duplicates", "written")
_PART_BYTES = 128 << 20  # raw bytes whose keys meet in one worker's memory


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """What to curate, and where the lines are drawn.

    Attributes:
      raw_dir: the raw corpus, laid out as read_sources.LAYOUT.
      output_dir: the curated corpus; appears when all is done and replaces an earlier one.
      languages: which of language.LANGUAGES to keep.
      rules: thresholds (see RuleThresholds) of the sources that need their own.
      near_duplicate_jaccard: least similarity of two texts' 3-grams at which the lesser one goes.
      held_out_fraction: share of each source's documents kept from training; at least one is.
      shards: output files per source and split.
      seed: of the order of the documents and of the held-out choice.
    """

    raw_dir: str
    output_dir: str
    languages: tuple[str, ...] = ("zh", "en")
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    near_duplicate_jaccard: float = 0.7
    held_out_fraction: float = 0.02
    shards: int = 1
    seed: int = 0

    def __post_init__(self):
        if not self.languages or set(self.languages) - set(LANGUAGES):
            raise InputError(f"languages {self.languages}: choose from {', '.join(LANGUAGES)}")
        for name in ("near_duplicate_jaccard", "held_out_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: set it between 0 and 1")
        if self.shards < 1:
            raise InputError(f"shards {self.shards}: set it to 1 or more")
        for source in self.rules:
            self.thresholds(source)

    def thresholds(self, source: str) -> RuleThresholds:
        """The thresholds for a source: its own where it has some, else the defaults."""
        try:
            return RuleThresholds(**self.rules.get(source, {}))
        except TypeError:
            known = ", ".join(RuleThresholds.__dataclass_fields__)
            raise InputError(
                f"rules of {source}: {self.rules[source]}; the thresholds are {known}"
            ) from None

    @property
    def dealing(self) -> Dealing:
        """How the documents that stay are dealt to shards and splits."""
        return Dealing(shards=self.shards, held_out_fraction=self.held_out_fraction, seed=self.seed)


def judge(
    records: list[Record], source: str, ledger: Ledger, config: CurationConfig
) -> list[Record]:
    """Takes records of one source through the stages that look at one text at a time."""
    records = ledger.sift(source, "read", records, [record.failure for record in records])
    languages = identify_languages([record.outcome.text for record in records])
    records = [
        Record(record.offset, record.length, replace(record.outcome, language=language))
        for record, language in zip(records, languages, strict=True)
    ]
    reasons = [
        None if one in config.languages else DropReason(f"language_{one}") for one in languages
    ]
    records = ledger.sift(source, "language", records, reasons)
    reasons = apply_rules([one.outcome.text for one in records], config.thresholds(source))
    return ledger.sift(source, "rules", records, reasons)


def recipe(pipeline, inputs: Sequence[InputFile], config: CurationConfig, folder: Path) -> None:
    """Lays out section 2 of the paper as a Beam pipeline, which leaves its files in `folder`."""
    import apache_beam as beam

    judged, dealing = partial(judge, config=config), config.dealing
    cleaned = (
        pipeline
        | "raw files" >> beam.Create(list(enumerate(inputs)))
        | "spread over workers" >> beam.Reshuffle()
        | "language and rules"
        >> beam.MapTuple(lambda file, raw: clean_file(file, raw, judged, folder))
    )
    parts = 1 + sum(one.path.stat().st_size for one in inputs) // _PART_BYTES
    exact, near = find_duplicates(cleaned, parts, config.near_duplicate_jaccard)
    files = cleaned | "files" >> beam.Map(lambda one: (one.file, None))
    released = (
        {"file": files, "exact": exact, "near": near}
        | "drops of each file" >> beam.CoGroupByKey()
        | "release the rest"
        >> beam.FlatMapTuple(lambda file, drops: release_file(file, drops, dealing, folder))
    )
    sources = sorted({one.source for one in inputs})
    written = write_documents(pipeline, released, sources, dealing, folder)
    ledgers = (
        cleaned | "counts of cleaning" >> beam.Map(lambda one: one.ledger),
        released | "counts of duplicates" >> beam.Map(lambda one: one.ledger),
        written,
    )
    _ = (
        ledgers
        | "all counts" >> beam.Flatten()
        | "ledger" >> beam.CombineGlobally(Ledger.merged)
        | "set it aside"
        >> beam.Map(lambda one: _ledger_file(folder).write_bytes(pickle.dumps(one)))
    )


def find_duplicates(cleaned, parts: int, threshold: float):
    """Shuffles the keys of cleaned files; returns exact and near drops, each as (file, row).

    The more parts the keys are dealt to, the less memory each takes; the result is the same.
    """
    import apache_beam as beam

    exact = (
        cleaned
        | "keys" >> beam.FlatMap(lambda one: dedup.deal_keys(one.keys, parts))
        | "meet by text" >> beam.GroupByKey()
        | "exact duplicates" >> beam.MapTuple(lambda _, keys: dedup.split_exact_duplicates(keys))
    )
    pairs = (
        exact
        | "bands" >> beam.FlatMapTuple(lambda unique, _: dedup.deal_bands(unique, parts))
        | "meet by band" >> beam.GroupByKey()
        | "candidates" >> beam.FlatMapTuple(lambda _, bands: dedup.candidate_pairs(bands))
    )
    sketches = exact | "sketches" >> beam.FlatMapTuple(lambda unique, _: dedup.sketches(unique))
    challenges = (
        {"sketches": sketches, "pairs": pairs}
        | "look up the better copy" >> beam.CoGroupByKey()
        | "challenge the other" >> beam.FlatMapTuple(lambda _, met: dedup.challenges(met))
    )
    near = (
        {"sketches": sketches, "challenges": challenges}
        | "look up the other" >> beam.CoGroupByKey()
        | "near duplicates" >> beam.FlatMapTuple(lambda _, met: dedup.lost_places(met, threshold))
    )
    repeats = exact | "repeats" >> beam.FlatMapTuple(lambda _, more: dedup.places(more))
    return repeats, near


def write_documents(pipeline, released, sources: Sequence[str], dealing: Dealing, folder: Path):
    """Brings the released documents of each output shard together; returns what was written."""
    import apache_beam as beam

    extremes = (
        released
        | "held-out draws" >> beam.FlatMap(lambda one: one.held_out_draws)
        | "lowest and highest" >> beam.CombinePerKey(_lowest_and_highest)
    )
    shards = [(source, shard) for source in sources for shard in range(dealing.shards)]
    no_texts = [(one, ASIDE_SCHEMA.empty_table()) for one in shards]
    texts = (
        released | "texts" >> beam.FlatMap(lambda one: one.shards),
        pipeline | "every shard, even if empty" >> beam.Create(no_texts),
    )
    return (
        texts
        | "texts and shards" >> beam.Flatten()
        | "the one shuffle of text" >> beam.GroupByKey()
        | "write"
        >> beam.Map(
            lambda shard, extremes: write_shard(*shard, extremes, dealing, folder),
            beam.pvalue.AsDict(extremes),
        )
    )


def _lowest_and_highest(draws: Iterable[tuple[int, int]]) -> tuple[int, int]:
    lowest, highest = zip(*draws, strict=True)
    return min(lowest), max(highest)


def _ledger_file(folder: Path) -> Path:
    return folder / ASIDE / "ledger.pickle"


def curate(config: CurationConfig, beam_arguments: Sequence[str] = ()) -> None:
    """Curates a corpus and prints its ledger.

    Args:
      config: what to do.
      beam_arguments: Beam's own options; without --runner the work is done in this process.

    Raises:
      InputError: the corpus, the output folder or an option cannot be used, or a source has kept
        no document; nothing is written.
      StopAndLook: the ledger does not add up; nothing is written.
    """
    inputs = list_inputs(config.raw_dir)
    sources = sorted({one.source for one in inputs})
    if strange := set(config.rules) - set(sources):
        raise InputError(f"rules for {min(strange)}; the sources are {', '.join(sources)}")
    pipeline = open_pipeline(beam_arguments)
    outputs = len(sources) * config.shards * len(SPLITS)
    with replacing(Path(config.output_dir).absolute()) as folder:
        with progress_shown(folder, len(inputs), outputs), pipeline:
            recipe(pipeline, inputs, config, folder)
        ledger = pickle.loads(_ledger_file(folder).read_bytes())
        Console().print(ledger.to_table(STAGES))
        ledger.check(STAGES)
        for source in sources:
            if not ledger.totals(source, STAGES)["kept"].documents:
                raise InputError(
                    f"nothing of {source} is kept (the reasons are above): change its files, its "
                    "rules or the languages, or take its folder away"
                )
        asked = {name: one for name, one in asdict(config).items() if not name.endswith("_dir")}
        content = ledger.to_json(STAGES, asked)
        (folder / LEDGER).write_text(json.dumps(content, indent=1) + "\n")
    print(f"{config.output_dir}: documents and {LEDGER}, digest {content['digest']}")


def main(arguments: Sequence[str]) -> None:
    """Runs the command line `python -m beam_pipelines.curate`."""
    if {"--help", "-h"} & set(arguments):
        print(USAGE, end="")
        return
    files, bindings, beam_arguments = gin_files.split_arguments(arguments)
    wanted = {"CurationConfig": CORPUS["CurationConfig"]}
    curate(gin_files.load(files, bindings, wanted, CORPUS)["CurationConfig"], beam_arguments)


if __name__ == "__main__":
    # Under its own name, so that no class of this file exists twice.
    from beam_pipelines import curate as door

    sys.exit(run_door(door.main, sys.argv[1:], "curate"))
