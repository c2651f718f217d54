"""The draw and the labels of benchmarks/rule_verdicts.py."""

import csv
import re
from collections import Counter

from benchmarks import rule_verdicts


def test_texts_are_drawn_in_turn_from_each_source_whatever_their_order():
    texts = {
        "a": [(f"{number:032x}", "") for number in range(5)],
        "b": [("f" * 32, "")],
        "c": [(f"{number:032x}", "") for number in range(90, 93)],
    }
    some = rule_verdicts.drawn(texts, 6)
    assert [source for source, _, _ in some] == ["a", "b", "c", "a", "c", "a"]
    assert rule_verdicts.drawn({name: texts[name][::-1] for name in "cba"}, 6) == some


def test_asked_about_are_rules_that_take_more_than_one_in_two_hundred():
    one = [("0" * 32, "")]
    texts = {"kept": {"a": one}, "code": {"a": one}, "tags": {"b": one}}
    asked = rule_verdicts.asked_about(Counter(a=199, b=200), texts)
    assert asked.keys() == {"kept", "code"}


def test_shares_by_source_are_of_all_labels_where_a_rule_takes_enough():
    texts = {
        "kept": {"a": [("9", "")]},
        "code": {"a": [("1", ""), ("2", ""), ("3", "")], "b": [("4", "")]},
        "tags": {"a": [("5", ""), ("6", "")]},
    }
    labels = {("1", ""): "junk", ("3", ""): "good", ("4", ""): "junk"}
    assert rule_verdicts.by_source(Counter(a=300, b=200), texts, labels) == [
        ("code", "a", 3, 2, 0.5),
        ("tags", "a", 2, 0, "-"),
    ]


def test_a_text_without_a_label_leaves_its_rule_without_a_figure():
    some = [("a", "1", ""), ("a", "2", ""), ("a", "3", "")]
    labels = {("1", ""): "junk", ("2", ""): "junk", ("3", ""): "good"}
    assert rule_verdicts.junk_share("code", some, labels) == 0.667
    assert rule_verdicts.junk_share("code", [*some, ("a", "4", "")], labels) is None


def test_a_label_of_lines_holds_for_these_lines_only():
    digest = "900150983cd2"  # of md5("abc"), RFC 1321: 900150983cd24fb0d6963f7d28e17f72
    labels = {("1", ""): "junk", ("1", digest): "good"}
    for lines, share in (("abc", 0), ("abcd", None)):
        assert rule_verdicts.junk_share("boilerplate_line", [("a", "1", lines)], labels) == share


def test_every_label_is_of_one_document_and_holds_no_text():
    with rule_verdicts.LABELS.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(re.fullmatch("[0-9a-f]{32}", row["doc_id"]) for row in rows)
    assert {row["label"] for row in rows} == {"good", "junk"}
    for row in rows:
        of_lines = row["rule"] == "boilerplate_line"
        assert re.fullmatch("[0-9a-f]{12}" if of_lines else "", row["lines"])
    assert len(rule_verdicts.read_labels()) == len(rows) > 700
