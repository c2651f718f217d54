"""Does the ledger tell the truth? Asked of what went in and what came out alone.

    python -m benchmarks.ledger_check --raw_dir RAW --curated_dir CURATED --tokens_dir TOKENS

Counts the documents and bytes of RAW (JSONL) and the documents and characters of CURATED anew, and
holds the ledger to them; looks for 1,000 token rows, as text, line by line in RAW, for curation
takes lines of boilerplate out and changes nothing else.
"""

import argparse
import gzip
import json
import random
import sys
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import bars
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.text.tokenizer import Tokenizer

ROWS = 1000
parser = argparse.ArgumentParser(description=__doc__)
for flag in ("--raw_dir", "--curated_dir", "--tokens_dir"):
    parser.add_argument(flag, type=Path, required=True)
options = parser.parse_args()
ledger = json.loads((options.curated_dir / "ledger.json").read_text())["sources"]
wrong, raw = 0, {}
for source, parts in ledger.items():
    files = sorted((options.raw_dir / source).glob("*.jsonl*"))
    opened = (gzip.open(file) if file.suffix == ".gz" else file.open("rb") for file in files)
    lines = [line for file in opened for line in file]
    raw[source] = "\0".join(json.loads(line)["text"] for line in lines)
    shards = (options.curated_dir / "documents").glob(f"{source}/*.parquet")
    texts = [text for file in shards for text in pq.read_table(file)["text"].to_pylist()]
    lost = sum(
        one["documents"]
        for stage, verdicts in parts.items()
        if stage not in ("totals", "written")
        for reason, one in verdicts.items()
        if reason != "passed"
    )
    found = (len(lines), sum(map(len, lines)), len(texts), sum(map(len, texts)), len(texts) + lost)
    read, kept = parts["totals"]["read"], parts["totals"]["kept"]
    said = (read["documents"], read["bytes"], kept["documents"], kept["characters"], len(lines))
    wrong += found != said
    print(f"{source}: {found} {'as' if found == said else 'is not what'} the ledger says")
tokenizer, drawn, absent = Tokenizer(options.tokens_dir / "tokenizer.model"), random.Random(0), 0
sets = {
    one.parent.name: TokenDataset(one.parent, "train")
    for one in options.tokens_dir.glob("*/token_metadata.json")
}
places = [(source, row) for source, rows in sets.items() for row in range(len(rows))]
for source, row in drawn.sample(places, min(ROWS, len(places))):
    [ids] = sets[source].__getitems__([row])
    documents, metadata = [[]], sets[source].metadata
    for one in ids.tolist():
        if one == metadata.eod_id:
            documents.append([])
        elif one != metadata.pad_id:
            documents[-1].append(one)
    text = "\n".join(tokenizer.decode(one).strip("\ufffd") for one in documents)
    absent += not all(line in raw[source] for line in text.split("\n"))
counted = [("sources_counted_otherwise", wrong, "== 0"), ("rows_not_in_the_inputs", absent, "== 0")]
sys.exit(bars.ended(counted))
