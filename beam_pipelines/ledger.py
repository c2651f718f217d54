"""The ledger: what came in, what was kept, and why the rest was not, by source, stage and reason.

Every stage counts by itself what it lets pass and what it drops; the law of the ledger is that
these counts agree from the first byte read to the last document written. Beside the counts it keeps
how long the texts were, what they are about, and a few of those dropped, to read. Knows nothing of
how a stage decides.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rich.table import Table

from beam_pipelines.document import DeadLetterReason, draw
from welm_jax.failures import StopAndLook

PASSED = "passed"
SAMPLES = 5  # documents to read, of those that a source loses to one reason
SAMPLE_CHARACTERS = 200  # of each
BINS_A_DECADE = 10
_EDGES = [math.ceil(round(10 ** (b / BINS_A_DECADE), 6)) for b in range(7 * BINS_A_DECADE + 1)]
_Counted = TypeVar("_Counted")


class Counts(NamedTuple):
    """Three sizes of a set of records.

    Attributes:
      documents: records of the raw corpus.
      bytes: what they take up in its files, decompressed, with their JSON and newlines.
      characters: of their text; 0 for what could not be read.
    """

    documents: int = 0
    bytes: int = 0
    characters: int = 0

    @classmethod
    def total(cls, counts: Iterable["Counts"]) -> "Counts":
        """Adds up the sizes of disjoint sets."""
        return cls(*map(sum, zip(cls(), *counts, strict=True)))


class Sample(NamedTuple):
    """A document that was dropped: which ones are shown is drawn by their ids alone."""

    draw: int
    doc_id: str
    text: str


@dataclass
class Ledger:
    """What became of everything that was read.

    A verdict is PASSED or the name of a reason; in the last stage it is the split.

    Attributes:
      counts: by (source, stage, verdict).
      inputs: what each input file was.
      lengths: documents by their number of characters, in bins that are tenths of a decade, by
        (source, "read" or "kept").
      topics: characters kept, by (dataset, topic), where a model tells topics apart.
      contaminated: documents that share too much with an evaluation task, by (task, source).
      samples: the SAMPLES lowest draws, by (source, stage, reason).
    """

    counts: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    lengths: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)
    topics: dict[tuple[str, str], int] = field(default_factory=dict)
    contaminated: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str, str], list[Sample]] = field(default_factory=dict)

    def add(self, source: str, stage: str, verdict: str, counts: Counts) -> None:
        """Adds records that met one verdict."""
        key = (source, stage, str(verdict))
        self.counts[key] = Counts.total([self.counts.get(key, Counts()), counts])

    def sift(
        self,
        source: str,
        stage: str,
        items: Sequence[_Counted],
        reasons: Sequence[str | None],
        are_shown: bool = True,
    ) -> list[_Counted]:
        """Counts items under their reasons; returns those without one.

        An item has `counts`, and `sample`: the id and text of its document, or None. Some of those
        with a reason are shown as samples, unless there is better to show than their beginning.
        """
        by_verdict: dict[str, list[_Counted]] = {}
        for item, reason in zip(items, reasons, strict=True):
            by_verdict.setdefault(reason or PASSED, []).append(item)
        for verdict, group in by_verdict.items():
            self.add(source, stage, verdict, Counts.total(item.counts for item in group))
            if verdict != PASSED and are_shown:
                self.sample(source, stage, verdict, (item.sample for item in group if item.sample))
        return by_verdict.get(PASSED, [])

    def sample(self, source: str, stage: str, reason: str, told: Iterable[tuple[str, str]]) -> None:
        """Keeps some of these documents, (doc_id, text), to be read; others go in their favour."""
        key = (source, stage, str(reason))
        drawn = [
            Sample(draw(doc_id, "sample"), doc_id, text[:SAMPLE_CHARACTERS])
            for doc_id, text in told
        ]
        if drawn:
            self.samples[key] = sorted({*self.samples.get(key, ()), *drawn})[:SAMPLES]

    def measure(self, source: str, when: str, characters: Sequence[int]) -> None:
        """Counts documents by their length, when "read" or "kept"."""
        bins = np.searchsorted(_EDGES, characters, side="right").tolist()
        self.lengths.setdefault((source, when), Counter()).update(bins)

    @classmethod
    def merged(cls, ledgers: Iterable["Ledger"]) -> "Ledger":
        """Adds up the ledgers of separate parts of the work, in any order."""
        merged = cls()
        for ledger in ledgers:
            merged.inputs.update(ledger.inputs)
            for key, counts in ledger.counts.items():
                merged.add(*key, counts)
            for place, bins in ledger.lengths.items():
                merged.lengths.setdefault(place, Counter()).update(bins)
            for about, characters in ledger.topics.items():
                merged.topics[about] = merged.topics.get(about, 0) + characters
            merged.contaminated.update(ledger.contaminated)
            for key, samples in ledger.samples.items():
                merged.samples[key] = sorted({*merged.samples.get(key, ()), *samples})[:SAMPLES]
        return merged

    @property
    def sources(self) -> list[str]:
        """The names of all sources, in order."""
        return sorted({source for source, _, _ in self.counts})

    def verdicts(self, source: str, stage: str) -> dict[str, Counts]:
        """What met each verdict of a stage, by the verdict's name."""
        keys = sorted(key for key in self.counts if key[:2] == (source, stage))
        return {key[2]: self.counts[key] for key in keys}

    def totals(self, source: str, stages: Sequence[str]) -> dict[str, Counts]:
        """Sums a source up: read = kept + dropped + dead_lettered."""
        lost = [
            (verdict in set(DeadLetterReason), counts)
            for stage in stages[:-1]
            for verdict, counts in self.verdicts(source, stage).items()
            if verdict != PASSED
        ]
        return {
            "read": Counts.total(self.verdicts(source, stages[0]).values()),
            "kept": Counts.total(self.verdicts(source, stages[-1]).values()),
            "dropped": Counts.total(counts for is_dead, counts in lost if not is_dead),
            "dead_lettered": Counts.total(counts for is_dead, counts in lost if is_dead),
        }

    def check(self, stages: Sequence[str]) -> None:
        """Asserts the law: each stage met exactly what the one before it let pass.

        So read = kept + dropped + dead_lettered, in documents, bytes and characters.

        Raises:
          StopAndLook: two neighbours disagree; names both, with their counts.
        """
        for source in self.sources:
            read = Counts.total(self.verdicts(source, stages[0]).values())
            files = [file for file in self.inputs.values() if file["source"] == source]
            held = sum(file["decompressed_bytes"] for file in files)
            _agree(source, "the files held", held, "the reader met", read.bytes)
            for before, after in zip(stages, stages[1:], strict=False):
                passed = self.verdicts(source, before).get(PASSED, Counts())
                met = Counts.total(self.verdicts(source, after).values())
                _agree(source, f"{before} passed on", passed, f"{after} met", met)

    def to_json(self, stages: Sequence[str], config: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the content of ledger.json.

        Args:
          stages: their names, in the order in which they ran.
          config: what was asked for, without the places where things lie.

        Returns:
          format, config, inputs (name -> RecordReader.fingerprint), sources
          (name -> totals, and each stage -> verdict -> counts), lengths (source -> "read" or
          "kept" -> bin -> documents; bin b is of texts with fewer characters than 10^(b / 10)),
          topics (dataset -> topic -> characters), contaminated (task -> source -> documents), and
          digest: the sha256 of all that, which token datasets cite.
        """
        sources = {}
        for source in self.sources:
            parts = {"totals": self.totals(source, stages)}
            parts |= {stage: self.verdicts(source, stage) for stage in stages}
            sources[source] = {
                part: {name: counts._asdict() for name, counts in of_part.items()}
                for part, of_part in parts.items()
            }
        content = {
            "format": 2,
            "config": dict(config),
            "inputs": dict(sorted(self.inputs.items())),
            "sources": sources,
            "lengths": _nested(
                {
                    key: {str(b): n for b, n in sorted(of.items())}
                    for key, of in self.lengths.items()
                }
            ),
            "topics": _nested(self.topics),
            "contaminated": _nested(self.contaminated),
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return {**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}

    def samples_json(self) -> dict[str, Any]:
        """Makes the content of samples.json: source -> stage -> reason -> doc_id and text."""
        told = {
            key: [{"doc_id": one.doc_id, "text": one.text} for one in samples]
            for key, samples in self.samples.items()
        }
        by_stage = {(source, stage): {} for source, stage, _ in told}
        for (source, stage, reason), samples in sorted(told.items()):
            by_stage[source, stage][reason] = samples
        return _nested(by_stage)

    def to_table(self, stages: Sequence[str]) -> Table:
        """Draws the ledger for the console: each source, what it lost to each reason, the rest."""
        table = Table("source", title="What curation kept")
        for column in ("documents", "MB", "characters", "share of bytes"):
            table.add_column(column, justify="right")
        for source in self.sources:
            totals = self.totals(source, stages)
            rows = [(source, totals["read"], "bold")]
            for stage in stages[:-1]:
                lost = self.verdicts(source, stage)
                lost.pop(PASSED, None)
                rows += [(f"  {name}", counts, "dim") for name, counts in lost.items()]
            for name, counts, style in (*rows, ("  kept", totals["kept"], "green")):
                share = counts.bytes / max(totals["read"].bytes, 1)
                sizes = (f"{counts.documents:,}", f"{counts.bytes / 1e6:.2f}")
                table.add_row(name, *sizes, f"{counts.characters:,}", f"{share:.1%}", style=style)
        return table


def _nested(pairs: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (outer, inner), value in sorted(pairs.items(), key=lambda pair: pair[0]):
        nested.setdefault(outer, {})[inner] = value
    return nested


def _agree(source: str, before: str, passed: Any, after: str, met: Any) -> None:
    if passed != met:
        raise StopAndLook(
            f"ledger of {source}: {before} {passed}, but {after} {met}; "
            "this is a defect of the pipeline, nothing was written: keep the input and report it"
        )
