"""The data card: what a corpus is made of, what curation took from it, and how it is fed.

Table 1 and Fig. 2 of the paper for the user's own corpus, the paper's figures beside, and dropped
texts to read. Reads the files that lie beside token datasets (or beside curated documents, before
there are tokens), and nothing else. Knows nothing of how a page looks, nor of how text is judged.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from welm_jax import run_files
from welm_jax.text.records import LEDGER_FILE, METADATA_FILE, SAMPLES_FILE, TokenMetadata
from welm_jax.text.sources import TABLE_1

MAX_EPOCHS = 4.0  # beyond which repeated text teaches less and less (Muennighoff et al. 2023)
# Source: WeLM section 2: what each group of stages takes of what comes to it; the paper does not
# say of which unit.
PAPER_SHARES = {"rules and classifier": 0.875, "duplicates": 0.4002, "contamination": 0.0015}
GROUPS = {
    "rules and classifier": ("language", "lines", "rules", "offensive", "classifier"),
    "duplicates": ("exact_duplicates", "near_duplicates"),
    "contamination": ("contamination",),
}
LARGE_LEAK = 0.1  # of a source's documents; the paper's share is a hundredth of that
UNITS = ("documents", "bytes", "characters")
Card = dict[str, Any]


def content(
    folder: epath.PathLike, rates: Mapping[str, float], tokens_fed: float, max_epochs: float
) -> Card | None:
    """Makes the card, in types of JSON.

    Args:
      folder: of token datasets, or of curated documents.
      rates: dataset -> share of the sequences; need not add up to 1.
      tokens_fed: that were or will be trained on.
      max_epochs: more of them call for a warning.

    Returns:
      `tokens_fed`; `table_1`, a row for each dataset and each source; `languages`, the share of
      the sequences of each where they are datasets of their own; `warnings`; `stages`, what is
      left after each; `shares`, what each of GROUPS took; `reasons`; `totals`; `lengths`;
      `topics`, before and after balancing; `contaminated`, by task; `samples`. None if the folder
      has no ledger.
    """
    folder = run_files.literal(folder)
    if not (folder / LEDGER_FILE).exists():
        return None
    ledger = run_files.read_json(folder / LEDGER_FILE)
    sources, samples = ledger["sources"], folder / SAMPLES_FILE
    datasets = {
        file.parent.name: TokenMetadata.from_json(file.read_text(encoding="utf-8"), str(file))
        for file in sorted(folder.glob(f"*/{METADATA_FILE}"))
    }
    table = _table_1(sources, datasets, rates, tokens_fed)
    topics = ledger.get("topics", {})
    return {
        "tokens_fed": tokens_fed,
        "table_1": table,
        "languages": _languages(table, sources, ledger.get("config", {})),
        "warnings": [*_feeding_warnings(table, max_epochs), *_leak_warnings(sources)],
        "stages": _stages(sources),
        "shares": _shares(sources),
        "reasons": _reasons(sources),
        "totals": {source: parts["totals"] for source, parts in sources.items()},
        "lengths": ledger.get("lengths", {}),
        "topics": _topics(topics, rates) if topics else [],
        "contaminated": ledger.get("contaminated", {}),
        "samples": run_files.read_json(samples) if samples.exists() else {},
    }


def _table_1(
    sources: Mapping[str, Any],
    datasets: Mapping[str, TokenMetadata],
    rates: Mapping[str, float],
    tokens_fed: float,
) -> list[Card]:
    """The rows of Table 1; what cannot be known is None."""
    all_tokens = sum(one.splits["train"].tokens for one in datasets.values())
    all_rates = sum(rates.values())
    rows = []
    for name in sorted({*sources, *datasets, *rates}):
        split = datasets[name].splits["train"] if name in datasets else None
        proportion = rates.get(name, 0) / all_rates if all_rates else None
        natural = split.tokens / all_tokens if split else None
        rows.append(
            {
                "name": name,
                "filtered": _filtered(sources[name]["totals"]) if name in sources else None,
                "tokens": split and split.tokens,
                "characters_per_token": split and split.characters / split.tokens,
                "natural_share": natural,
                "proportion": proportion,
                "over_sampling": proportion / natural if split and proportion else None,
                "epochs": tokens_fed * proportion / split.tokens if split and proportion else None,
                "paper": vars(TABLE_1[name]) if name in TABLE_1 else None,
            }
        )
    return rows


def _filtered(totals: Mapping[str, Mapping[str, int]]) -> Card:
    """Share of a source that is not kept, in each unit; what cannot be read has no characters."""
    return {unit: 1 - totals["kept"][unit] / (totals["read"][unit] or 1) for unit in UNITS}


def _languages(
    table: Sequence[Card], sources: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, float]:
    if not config.get("parts_languages"):
        return {}
    shares: dict[str, float] = {}
    for row in table:
        source, _, language = row["name"].rpartition("_")
        if row["name"] in sources:
            language = "zh"
        elif source not in sources:
            continue
        shares[language] = shares.get(language, 0.0) + (row["proportion"] or 0.0)
    return shares


def _feeding_warnings(table: Sequence[Card], max_epochs: float) -> Iterator[str]:
    for row in table:
        if row["epochs"] and row["epochs"] > max_epochs:
            times = f"{row['name']} is seen {row['epochs']:.1f} times"
            yield f"{times}; more than {max_epochs:g} wear it out"
    if empty := [row["name"] for row in table if row["proportion"] and not row["tokens"]]:
        yield f"a rate and no tokens: {', '.join(empty)}"
    unseen = [row for row in table if row["tokens"] and row["proportion"] == 0]
    if unseen:
        named = ", ".join(f"{row['name']} ({row['tokens']:,} tokens)" for row in unseen)
        yield f"never seen, for there is no rate: {named}"


def _leak_warnings(sources: Mapping[str, Any]) -> Iterator[str]:
    for source, parts in sources.items():
        counts = parts.get("contamination", {})
        met, lost = (
            sum(one["documents"] for name, one in counts.items() if name in names)
            for names in (counts, ("contaminated",))
        )
        if lost > LARGE_LEAK * met:
            yield (
                f"{lost:,} of {met:,} documents of {source} share text with evaluation tasks: read "
                "the spans below, a footer that all have in common may be the reason"
            )


def _stages(sources: Mapping[str, Any]) -> list[Card]:
    """What is left of all sources after each stage, from what was read to what was written."""
    read = [parts["totals"]["read"] for parts in sources.values()]
    left = [{"stage": "raw", **{unit: sum(one[unit] for one in read) for unit in UNITS}}]
    for stage in _names(sources):
        passed = [parts[stage].get("passed", {}) for parts in sources.values()]
        sums = {unit: sum(one.get(unit, 0) for one in passed) for unit in UNITS}
        left.append({"stage": stage, **sums})
    return left


def _names(sources: Mapping[str, Any]) -> list[str]:
    """The stages that let texts pass, in order: all but the one that writes."""
    return [stage for stage in next(iter(sources.values())) if stage != "totals"][:-1]


def _shares(sources: Mapping[str, Any]) -> list[Card]:
    """What each group of stages took of what came to it, in each unit, and the paper's figure."""
    left = {one["stage"]: one for one in _stages(sources)}
    order, shares = list(left), []
    for group, stages in GROUPS.items():
        mine = [stage for stage in stages if stage in left]
        if mine:
            before, after = left[order[order.index(mine[0]) - 1]], left[mine[-1]]
            taken = {unit: 1 - after[unit] / (before[unit] or 1) for unit in UNITS}
            shares.append({"group": group, "paper": PAPER_SHARES[group], **taken})
    return shares


def _reasons(sources: Mapping[str, Any]) -> list[Card]:
    """Documents that each reason took of each source, in the order of the stages."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for stage in _names(sources):
        for source, parts in sources.items():
            for reason, counts in parts[stage].items():
                if reason != "passed":
                    row = rows.setdefault((stage, reason), dict.fromkeys(sources, 0))
                    row[source] = counts["documents"]
    return [
        {"stage": stage, "reason": reason, "documents": row}
        for (stage, reason), row in rows.items()
    ]


def _topics(topics: Mapping[str, Mapping[str, int]], rates: Mapping[str, float]) -> list[Card]:
    """Share of each topic in the characters kept, and in what is fed at these rates."""
    kept = sum(sum(mine.values()) for mine in topics.values())
    fed = {dataset: rate for dataset, rate in rates.items() if dataset in topics and rate}
    shares: dict[str, Card] = {}
    for dataset, mine in topics.items():
        rate = fed.get(dataset, 0) / (sum(fed.values()) or 1)
        for topic, characters in mine.items():
            one = shares.setdefault(topic, {"topic": topic, "before": 0.0, "after": 0.0})
            one["before"] += characters / kept
            one["after"] += rate * characters / sum(mine.values())
    return sorted(shares.values(), key=lambda one: (-one["before"], one["topic"]))


def drawn(card: Card) -> Card:
    """The card with its length histograms as paths, in a box of 100 by 30, for the template."""
    bins = [int(b) for mine in card["lengths"].values() for of in mine.values() for b in of]
    low, high = min(bins, default=0), max(bins, default=0) + 1

    def path(counts: Mapping[str, int], most: int) -> str:
        words = [f"M{_place(low, low, high)} 30"]
        for b in range(low, high):
            height = round(30 - 29 * counts.get(str(b), 0) / most, 1)
            words.append(f"V{height}H{_place(b + 1, low, high)}")
        return "".join([*words, "V30"])

    curves = {}
    for source, mine in card["lengths"].items():
        most = max((n for of in mine.values() for n in of.values()), default=1)
        curves[source] = {when: path(counts, most) for when, counts in mine.items()}
    # Bin b ends at 10^(b / 10) characters; a mark at each whole decade.
    decades = range(-(-(low - 1) // 10), (high - 1) // 10 + 1)
    marks = [(_place(10 * decade + 1, low, high), f"{10**decade:,}") for decade in decades]
    return card | {"length_curves": curves, "length_marks": marks}


def _place(b: int, low: int, high: int) -> float:
    return round(100 * (b - low) / max(high - low, 1), 1)
