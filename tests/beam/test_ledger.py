import hashlib
import json

import pytest
from rich.console import Console

from beam_pipelines.ledger import PASSED, Counts, Ledger
from welm_jax.failures import StopAndLook

STAGES = ("read", "rules", "written")


def balanced() -> Ledger:
    ledger = Ledger()
    ledger.inputs["news/a.jsonl"] = {
        "source": "news",
        "bytes": 60,
        "sha256": "00",
        "decompressed_bytes": 100,
    }
    for stage, verdict, counts in (
        ("read", "not_json", Counts(1, 10, 0)),
        ("read", PASSED, Counts(5, 90, 60)),
        ("rules", "too_short", Counts(2, 20, 10)),
        ("rules", PASSED, Counts(3, 70, 50)),
        ("written", "train", Counts(2, 50, 35)),
        ("written", "heldout", Counts(1, 20, 15)),
    ):
        ledger.add("news", stage, verdict, counts)
    return ledger


def test_a_balanced_ledger_passes_and_sums_up():
    ledger = balanced()
    ledger.check(STAGES)
    assert ledger.totals("news", STAGES) == {
        "read": Counts(6, 100, 60),
        "kept": Counts(3, 70, 50),
        "dropped": Counts(2, 20, 10),
        "dead_lettered": Counts(1, 10, 0),
    }


# How many records a file should hold is known to nobody; of a dead letter only the bytes are.
@pytest.mark.parametrize(
    ("key", "one_more"),
    [
        (key, one)
        for key in balanced().counts
        for one in (Counts(1, 0, 0), Counts(0, 1, 0), Counts(0, 0, 1))
        if "not_json" not in key or one.bytes
    ],
)
def test_one_document_byte_or_character_too_many_is_noticed(key, one_more):
    ledger = balanced()
    ledger.add(*key, one_more)
    with pytest.raises(StopAndLook, match="ledger of news: .* this is a defect of the pipeline"):
        ledger.check(STAGES)


def test_a_byte_of_the_files_that_no_record_accounts_for_is_noticed():
    ledger = balanced()
    ledger.inputs["news/a.jsonl"]["decompressed_bytes"] = 101
    with pytest.raises(StopAndLook, match="the files held 101, but the reader met 100"):
        ledger.check(STAGES)


def test_merging_adds_up_in_any_order():
    parts = [balanced(), Ledger(), balanced()]
    merged = Ledger.merged(parts)
    assert merged.counts["news", "rules", PASSED] == Counts(6, 140, 100)
    assert Ledger.merged(parts[::-1]) == merged


def test_sifting_counts_every_item_once():
    class Item:
        counts = Counts(1, 2, 3)
        sample = None

    ledger, items = Ledger(), [Item() for _ in range(4)]
    passed = ledger.sift("news", "rules", items, [None, "too_short", None, "too_short"])
    assert passed == [items[0], items[2]]
    two = Counts(2, 4, 6)
    assert ledger.verdicts("news", "rules") == {PASSED: two, "too_short": two}


def test_the_digest_is_of_everything_else():
    content = balanced().to_json(STAGES, {"seed": 0})
    digest = content.pop("digest")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert digest == hashlib.sha256(canonical).hexdigest()
    assert content["sources"]["news"]["rules"]["too_short"] == {
        "documents": 2,
        "bytes": 20,
        "characters": 10,
    }
    assert balanced().to_json(STAGES, {"seed": 1})["digest"] != digest


def test_the_table_names_each_reason_with_its_share():
    console = Console(width=100)
    with console.capture() as shown:
        console.print(balanced().to_table(STAGES))
    text = shown.get()
    for row in ("news", "not_json", "too_short", "kept"):
        assert row in text
    assert "70.0%" in text and "20.0%" in text and "100.0%" in text


def test_a_few_of_those_dropped_are_kept_to_read_whatever_the_order():
    told = [(f"{number:032x}", f"{number} " + "长" * 300) for number in range(40)]
    ledger, parts = Ledger(), [Ledger() for _ in range(4)]
    ledger.sample("news", "rules", "too_short", told)
    for number, one in enumerate(told[::-1]):
        parts[number % 4].sample("news", "rules", "too_short", [one, one])
    samples = ledger.samples_json()["news"]["rules"]["too_short"]
    assert samples == Ledger.merged(parts).samples_json()["news"]["rules"]["too_short"]
    assert len({one["doc_id"] for one in samples}) == 5
    texts = dict(told)
    assert all(one["text"] == texts[one["doc_id"]][:200] for one in samples)


def test_lengths_are_counted_in_tenths_of_a_decade():
    ledger = Ledger()
    ledger.measure("news", "read", [1, 9, 10, 999, 1000])
    ledger.measure("news", "read", [10])
    # 10^0 <= 1 < 10^.1; 9 < 10; 10^1 <= 10 < 10^1.1; 999 < 10^3; 10^3 <= 1000 < 10^3.1
    assert ledger.to_json((), {})["lengths"]["news"]["read"] == {
        **{"1": 1, "10": 1, "11": 2, "30": 1, "31": 1}
    }
