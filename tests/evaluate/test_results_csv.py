import csv
import io

import pytest

from tests.evaluate.small_summaries import summary
from welm_jax.evaluate import results_csv
from welm_jax.tasks import judgement


def lines_of(*summaries, model="run/7"):
    text = results_csv.text({one["task"]: one for one in summaries}, model)
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_for_each_norm_the_headline_first():
    lines = lines_of(summary("c3", 5, right=3, of=4))
    assert tuple(lines[0]) == results_csv.COLUMNS
    assert [line["norm"] for line in lines] == list(judgement.NORMS)
    assert [line["headline"] for line in lines] == ["1", "0", "0", "0", "0"]
    assert {line["metric"] for line in lines} == {"acc"}
    first = lines[0]
    assert (first["task"], first["split"], first["shots"]) == ("c3_5shot", "validation", "5")
    assert (first["value"], first["n"], first["chance"]) == ("75.0", "4", "25.0")
    assert float(first["ci_lo"]) < 75 < float(first["ci_hi"])
    assert (first["region"], first["seed"], first["model"]) == ("label", "0", "run/7")
    assert first["prompt_id"].startswith("c3-") and first["truncated"] == "0"


def test_further_scores_of_answers_have_lines_of_their_own():
    lines = lines_of(summary("webqa", 0, right=1, of=4, skipped={"no answer": 2}))
    names = ["f1_cmrc", "f1_mlqa_zh", "acc_exact", "webqa_strict"]
    assert [line["metric"] for line in lines] == names
    assert [line["value"] for line in lines] == ["25.0"] * 4
    assert lines[0]["ci_hi"] and not lines[3]["ci_hi"]  # of counts, not a mean
    assert {line["skipped"] for line in lines} == {"2"}
    assert {line["norm"] + line["region"] + line["chance"] for line in lines} == {""}
    translated = lines_of(summary("zh2en", 1))
    assert [line["metric"] for line in translated] == ["bleu_13a", "language_is_right"]


def test_accuracy_among_all_labels_is_told_where_some_were_drawn():
    tnews = summary("c3", 0, among_all_labels=50.0)
    tnews["intervals"]["among_all_labels"] = [25.0, 75.0]
    last = lines_of(tnews)[-1]
    assert (last["metric"], last["value"], last["ci_lo"]) == ("among_all_labels", "50.0", "25.0")
    assert (last["norm"], last["chance"]) == ("token_mean", "")  # which is not that of the others


def test_a_set_that_stands_in_is_named():
    [line, *_] = lines_of(summary("chid", 2, set="chid", stands_in="7 candidates"))
    assert (line["set"], line["stands_in"], line["region"]) == (
        "chid",
        "7 candidates",
        "label_suffix",
    )


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula_and_numbers_stay_numbers(begin):
    told = f'{begin}HYPERLINK("http://x", "y")'
    other = {"task": told, "split": "validation", "metrics": {told: -1.5}}
    [line] = lines_of(other, model=told)
    assert line["task"] == line["metric"] == line["model"] == f"'{told}"
    assert line["value"] == "-1.5"
