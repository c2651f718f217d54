"""Does the ledger tell the truth? Asked of what went in and what came out alone.

    python -m benchmarks.ledger_check --raw_dir RAW --curated_dir CURATED --tokens_dir TOKENS

Counts the lines and bytes of RAW (JSONL) and the documents and characters of CURATED anew, and
holds the ledger to them; looks for 1,000 token rows, as text, line by line in RAW, for curation
takes lines of boilerplate out and changes nothing else.
"""

import gzip
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import bars
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.failures import ArgumentParser, run_door
from welm_jax.text.tokenizer import Tokenizer

ROWS = 1000


def main(arguments: Sequence[str]) -> int:
    """Checks both, prints the bars and gives the exit status."""
    parser = ArgumentParser(prog="ledger_check", description=__doc__.splitlines()[0])
    for flag in ("--raw_dir", "--curated_dir", "--tokens_dir"):
        parser.add_argument(flag, type=Path, required=True)
    options = parser.parse_args(arguments)
    raw, written = {}, {}
    for file in sorted(options.raw_dir.glob("*/*.jsonl*")):
        lines = (gzip.open(file) if file.suffix == ".gz" else file.open("rb")).readlines()
        raw[file.parent.name] = raw.get(file.parent.name, []) + lines
    for file in (options.curated_dir / "documents").glob("*/*.parquet"):
        for row in pq.read_table(file, columns=["source", "text"]).to_pylist():
            written.setdefault(row["source"], []).append(row["text"])
    file, wrong = options.curated_dir / "ledger.json", 0
    ledger = json.loads(file.read_text(encoding="utf-8"))["sources"]
    for source in sorted({*raw, *ledger}):
        lines, texts = raw.get(source, []), written.get(source, [])
        found = (len(lines), sum(map(len, lines)), len(texts), sum(map(len, texts)))
        read, kept = (ledger.get(source, {})["totals"][name] for name in ("read", "kept"))
        said = (read["documents"], read["bytes"], kept["documents"], kept["characters"])
        wrong += found != said
        print(f"{source}: {found}, " + ("as the ledger says" if found == said else f"not {said}"))
    absent = rows_absent(options.tokens_dir, {name: _text(lines) for name, lines in raw.items()})
    bars_met = ("sources_counted_otherwise", wrong, "== 0"), ("rows_absent", absent, "== 0")
    return bars.ended(bars_met)


def _text(lines: Sequence[bytes]) -> str:
    return "\0".join(json.loads(line)["text"] for line in lines if line.strip())


def rows_absent(tokens_dir: Path, raw: dict[str, str]) -> int:
    """How many of the rows drawn hold a line that is not in the raw text of their source."""
    tokenizer, absent = Tokenizer(tokens_dir / "tokenizer.model"), 0
    folders = sorted(file.parent for file in tokens_dir.glob("*/token_metadata.json"))
    datasets = {folder.name: TokenDataset(folder, "train") for folder in folders}
    places = [(name, row) for name, rows in datasets.items() for row in range(len(rows))]
    for name, row in random.Random(0).sample(places, min(ROWS, len(places))):
        metadata, documents = datasets[name].metadata, [[]]
        for one in datasets[name].__getitems__([row])[0].tolist():
            if one == metadata.eod_id:
                documents.append([])
            elif one != metadata.pad_id:
                documents[-1].append(one)
        # A row may begin or end within a character.
        text = "\n".join(tokenizer.decode(one).strip("\ufffd") for one in documents)
        source = name if name in raw else name.rpartition("_")[0]
        absent += not all(line in raw[source] for line in text.split("\n"))
    print(f"{min(ROWS, len(places))} rows looked for, {absent} of them not found")
    return absent


if __name__ == "__main__":
    statuses = []
    failed = run_door(lambda given: statuses.append(main(given)), sys.argv[1:], "ledger_check")
    sys.exit(failed or statuses[0])
