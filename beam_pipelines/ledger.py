"""The ledger: what came in, what was kept, and why the rest was not, by source, stage and reason.

Every stage counts by itself what it lets pass and what it drops; the law of the ledger is that
these counts agree from the first byte read to the last document written. Knows nothing of how a
stage decides.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from rich.table import Table

from beam_pipelines.document import DeadLetterReason
from welm_jax.failures import StopAndLook

PASSED = "passed"
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


@dataclass
class Ledger:
    """Counts by (source, stage, verdict), and what each input file was.

    The verdict is PASSED or the name of a reason; in the last stage it is the split.
    """

    counts: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)

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
    ) -> list[_Counted]:
        """Counts items (anything with `.counts`) under their reasons; returns those without one."""
        by_verdict: dict[str, list[_Counted]] = {}
        for item, reason in zip(items, reasons, strict=True):
            by_verdict.setdefault(reason or PASSED, []).append(item)
        for verdict, group in by_verdict.items():
            self.add(source, stage, verdict, Counts.total(item.counts for item in group))
        return by_verdict.get(PASSED, [])

    @classmethod
    def merged(cls, ledgers: Iterable["Ledger"]) -> "Ledger":
        """Adds up the ledgers of separate parts of the work, in any order."""
        merged = cls()
        for ledger in ledgers:
            merged.inputs.update(ledger.inputs)
            for key, counts in ledger.counts.items():
                merged.add(*key, counts)
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
          (name -> totals, and each stage -> verdict -> counts), and digest: the sha256 of all
          that, which token datasets cite.
        """
        sources = {}
        for source in self.sources:
            parts = {"totals": self.totals(source, stages)}
            parts |= {stage: self.verdicts(source, stage) for stage in stages}
            sources[source] = {
                part: {name: counts._asdict() for name, counts in of_part.items()}
                for part, of_part in parts.items()
            }
        inputs = dict(sorted(self.inputs.items()))
        content = {"format": 1, "config": dict(config), "inputs": inputs, "sources": sources}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return {**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}

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


def _agree(source: str, before: str, passed: Any, after: str, met: Any) -> None:
    if passed != met:
        raise StopAndLook(
            f"ledger of {source}: {before} {passed}, but {after} {met}; "
            "this is a defect of the pipeline, nothing was written: keep the input and report it"
        )
