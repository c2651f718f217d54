"""Are curation's verdicts right? Held to texts that were read and labelled.

    python -m benchmarks.rule_verdicts --raw_dir RAW    # the 24 corpora of docs/benchmarks.md
    python -m benchmarks.rule_verdicts --raw_dir RAW --draw    # what has no label yet, to read

Asked about are the rules, languages among them, that take more than .5 % of the documents of a
source: 40 of what each drops (or all, if it drops fewer), and 200 of what is kept, in turn from
every source that has some, in an order that hangs on their ids alone. A label in rule_verdicts.csv
says what a careful editor would: `junk` is not worth training on, or in no language that is asked
for; of `boilerplate_line` it speaks of the lines that are taken out, not of their text, and holds
for these lines only, by their digest. Precision is the share of junk among what a rule drops, in
all sources; by source it is printed only. The figures before are of the rules as they were when
most labels were given, on the 40 that those drew.
Mojibake: kept texts of which three in five characters are Han, misread on purpose, the bytes that
no longer fit left out.
"""

import csv
import hashlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from beam_pipelines.characters import Kind, TextBatch, spread_sample
from beam_pipelines.document import draw
from beam_pipelines.filters import FilterConfig, judge
from beam_pipelines.ledger import Ledger
from beam_pipelines.mojibake import are_garbled
from beam_pipelines.read_sources import RecordReader, list_inputs
from benchmarks import bars
from welm_jax.failures import ArgumentParser, run_door

LABELS = Path(__file__).with_suffix(".csv")
BEFORE = Path(__file__).with_name("rule_verdicts_before.json")
OF_A_RULE, OF_KEPT = 40, 200
ASKED_ABOUT = 0.005  # of a source's documents
TARGET = ">= 0.9"
MISREADINGS = (  # the encoding of a text, and as what it is read
    *(("utf-8", "gbk"), ("utf-8", "latin-1"), ("utf-8", "cp1252"), ("utf-8", "big5")),
    *(("gbk", "big5"), ("gbk", "latin-1"), ("gbk", "cp1252")),
)
OF_MISREAD = 600
KEPT, LINES = "kept", "boilerplate_line"

Texts = dict[str, list[tuple[str, str]]]  # source -> id and text, or the lines that are lost


class Verdicts(Ledger):
    """A ledger that keeps every document that is lost, not a sample of them."""

    def sample(self, source: str, stage: str, reason: str, told: Iterable[tuple[str, str]]) -> None:
        """Keeps these documents, of a long one parts from all of it."""
        shown = [(doc_id, spread_sample(text)) for doc_id, text in told]
        self.samples.setdefault((source, stage, str(reason)), []).extend(shown)


def judged(raw_dir: str) -> tuple[Counter, dict[str, Texts]]:
    """How many documents each source has; what met each verdict, the kept among them."""
    verdicts, read, texts = Verdicts(), Counter(), {KEPT: {}}
    for file in list_inputs(raw_dir, {}):
        records = iter(RecordReader(file))
        while batch := list(itertools.islice(records, 256)):
            kept = judge(batch, file.source, verdicts, FilterConfig())
            read[file.source] += len(batch)
            texts[KEPT].setdefault(file.source, []).extend(
                (one.outcome.doc_id, spread_sample(one.outcome.text)) for one in kept
            )
    for (source, _, reason), lost in verdicts.samples.items():
        texts.setdefault(reason, {}).setdefault(source, []).extend(lost)
    return read, texts


def drawn(texts: Texts, count: int) -> list[tuple[str, str, str]]:
    """Source, id and text of so many, in turn from each source."""
    queues = [
        [(source, *one) for one in sorted(texts[source], key=lambda one: draw(one[0], "verdict"))]
        for source in sorted(texts)
    ]
    rounds = itertools.zip_longest(*queues)
    return [one for turn in rounds for one in turn if one is not None][:count]


def asked_about(read: Counter, texts: Mapping[str, Texts]) -> dict[str, list[tuple[str, str, str]]]:
    """Each verdict that is asked about, and what is drawn of it."""
    asked = {KEPT: drawn(texts[KEPT], OF_KEPT)}
    for rule in sorted(texts.keys() - {KEPT}):
        if any(len(lost) > ASKED_ABOUT * read[source] for source, lost in texts[rule].items()):
            asked[rule] = drawn(texts[rule], OF_A_RULE)
    return asked


def read_labels() -> dict[tuple[str, str], str]:
    """Labels by the document's id and the digest of the lines that they speak of, if of lines."""
    with LABELS.open(newline="", encoding="utf-8") as stream:
        return {(row["doc_id"], row["lines"]): row["label"] for row in csv.DictReader(stream)}


def lines_digest(rule: str, text: str) -> str:
    """What a label of lost lines is known by beside its document; empty for any other verdict."""
    return hashlib.md5(text.encode()).hexdigest()[:12] if rule == LINES else ""


def junk_share(rule: str, some: Sequence[tuple[str, str, str]], labels: Mapping) -> float | None:
    """The share of junk, or None if one of these has no label."""
    marks = [labels.get((doc_id, lines_digest(rule, text))) for _, doc_id, text in some]
    return None if None in marks or not marks else round(marks.count("junk") / len(marks), 3)


def by_source(read: Counter, texts: Mapping[str, Texts], labels: Mapping) -> list[tuple]:
    """Rule, source, drops, labels and share of junk, where a rule takes enough of a source.

    All labels count, also those that an earlier draw asked for.
    """
    rows = []
    for rule in sorted(texts.keys() - {KEPT}):
        for source, lost in sorted(texts[rule].items()):
            if len(lost) > ASKED_ABOUT * read[source]:
                marks = [labels.get((doc_id, lines_digest(rule, text))) for doc_id, text in lost]
                marks = [label for label in marks if label]
                share = round(marks.count("junk") / len(marks), 3) if marks else "-"
                rows.append((rule, source, len(lost), len(marks), share))
    return rows


def misread(kept: Texts) -> list[tuple[str, float, str]]:
    """How much mojibake is found: a bar for each misreading that loses less than half."""
    texts = [text for _, _, text in drawn(kept, 3 * OF_MISREAD)]
    batch = TextBatch.of(texts)
    is_chinese = batch.kinds[:, Kind.HAN] > 0.6 * batch.visible
    texts = [text for text, chosen in zip(texts, is_chinese, strict=True) if chosen][:OF_MISREAD]
    found = {
        (right, wrong): float(
            are_garbled(
                TextBatch.of([one.encode(right, "ignore").decode(wrong, "ignore") for one in texts])
            ).mean()
        )
        for right, wrong in MISREADINGS
    }
    show(f"mojibake found, of {len(texts)} texts", "written as | read as | found", [
        (*names, f"{share:.3f}") for names, share in found.items()
    ])  # fmt: skip
    lossy = ("utf-8", "big5")
    return [
        (f"mojibake_found_{right}_as_{wrong}", round(share, 3), ">= 0.97")
        for (right, wrong), share in found.items()
        if (right, wrong) != lossy
    ]


def main(arguments: Sequence[str]) -> int:
    """Prints what is asked for, and the bars; gives the exit status."""
    parser = ArgumentParser(prog="rule_verdicts", description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", required=True, help="a corpus, laid out as curation wants it")
    parser.add_argument("--draw", action="store_true", help="print what is drawn without a label")
    options = parser.parse_args(arguments)
    read, texts = judged(options.raw_dir)
    asked, labels = asked_about(read, texts), read_labels()
    if options.draw:
        for rule, some in asked.items():
            for source, doc_id, text in some:
                lines = lines_digest(rule, text)
                if (doc_id, lines) not in labels:
                    print(f"{doc_id},{rule},{lines},\n    {source}: {text!r}")
        return 0
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    show("kept", "source | documents | kept before | kept", [
        (source, count, before["kept"].get(source, "-"), len(texts[KEPT].get(source, [])))
        for source, count in sorted(read.items())
    ])  # fmt: skip
    shares = {rule: junk_share(rule, some, labels) for rule, some in asked.items()}
    show("share of junk", "verdict | drops | labels before | before | labels | now", [
        (rule, sum(map(len, texts.get(rule, {}).values())), *before["junk"].get(rule, ("-", "-")),
         len(asked.get(rule, [])) or "-", "-" if shares.get(rule) is None else shares[rule])
        for rule in sorted({*asked, *before["junk"]})
    ])  # fmt: skip
    show("share of junk by source", "verdict | source | drops | labels | share", by_source(
        read, texts, labels
    ))  # fmt: skip
    precisions = [
        (f"precision_{rule}", share, TARGET) for rule, share in shares.items() if rule != KEPT
    ]
    return bars.ended(precisions + misread(texts[KEPT]))


def show(title: str, head: str, rows: Sequence[Sequence]) -> None:
    table = Table(*head.split(" | "), title=f"\n{title}", title_justify="left", min_width=78)
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=100).print(table)


if __name__ == "__main__":
    statuses = []
    failed = run_door(lambda given: statuses.append(main(given)), sys.argv[1:], "rule_verdicts")
    sys.exit(failed or statuses[0])
