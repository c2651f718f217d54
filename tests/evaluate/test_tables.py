import pytest

from tests.evaluate.small_summaries import ROWS, mean, outcome, summaries, summary
from welm_jax.evaluate import tables
from welm_jax.evaluate.paper_numbers import CLUE, COMMON


def rows_of(ours):
    [table] = tables.shown(ours)
    return {cells[0]: dict(zip(table.columns, cells, strict=True)) for cells in table.rows}, table


def test_means_stand_below_the_chinese_rows():
    found, table = rows_of(summaries(COMMON))
    assert [cells[0] for cells in table.rows[-2:]] == ["mean of the 14 common rows", "CLUE average"]
    common = found["mean of the 14 common rows"]
    assert common["WeLM 10B, zero-shot"] == "57.07" and common["WeLM 10B, few-shot"] == "61.21"
    for setting in ("zero-shot", "few-shot"):
        assert float(common[f"**ours, {setting}**"]) == pytest.approx(mean(COMMON), abs=0.005)
        assert found["CLUE average"][f"**ours, {setting}**"] == "40.62"
    assert common["set"] == "14 rows" and not any(note.startswith("mean") for note in table.notes)


def test_a_mean_of_ours_is_there_only_if_all_of_its_rows_are():
    ours = summaries(CLUE)
    del ours["cmnli_0shot"]
    found, table = rows_of(ours)
    assert found["CLUE average"]["**ours, zero-shot**"] == "–"
    assert found["CLUE average"]["**ours, few-shot**"] == "40.62"
    assert found["CLUE average"]["WeLM 10B, zero-shot"] == "61.84"
    assert "CLUE average, zero-shot: ours lacks CMNLI" in table.notes
    assert not any(note.startswith("CLUE average, few-shot") for note in table.notes)


def test_a_mean_over_sets_that_stand_in_is_marked():
    found, table = rows_of(summaries(CLUE, stands_in="another"))
    assert found["CLUE average"]["set"] == "8 rows*"
    [note] = [one for one in table.notes if one.startswith("CLUE average, few-shot")]
    assert note.endswith("* not the paper's sets: CMRC2018, CHID, CMNLI, OCNLI, TNEWS, IFLYTEK, "
                         "WSC2020, C3")  # fmt: skip


def test_cross_lingual_rows_have_no_mean():
    found, _ = rows_of(summaries(["zh2en"]))
    assert list(found) == ["ZH2EN"]


def test_remarks_on_single_rows_are_printed():
    _, table = rows_of(summaries(["wsc2020", "lcsts"]))
    assert any(
        note.startswith("WSC2020: the paper's columns are not of one") for note in table.notes
    )
    assert "LCSTS: the first 20 characters of the passage score 12.00" in table.notes


def test_what_is_written_into_a_table_stays_in_its_cell():
    _, table = rows_of({"c3_0shot": summary("c3", 0, set="a|b<i>")})
    assert r"| a\|b<i> |" in tables.markdown([table], 7)
    assert "<td>a|b&lt;i&gt;</td>" in tables.page([table], 7, {})


def test_what_a_model_says_is_escaped_and_steers_no_terminal():
    one = outcome(ROWS["cmrc2018"], 0, True, 0)
    one["answer"] = "<script>alert(1)</script>\x1b[31m red\x9b0m\r\u202e|"
    page = tables.page([], 7, {"cmrc2018_0shot": [one]})
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "\\x1b[31m red\\x9b0m\\r\\u202e|" in page
    assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(page)
