import gzip
import json
import os

import pyarrow
import pyarrow.parquet
import pytest

from beam_pipelines.evaluation_text import evaluation_files, texts_by_task, unread_files
from tests.tasks import small_sets
from welm_jax.failures import InputError

TEXT = "小镇的钟楼为什么停在三点一刻？"


def write(root, **files):
    """Files below a folder: their paths, with __ for a slash and _ for the dot, and contents."""
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        file = root / f"{stem}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def read(root):
    return texts_by_task(str(root), evaluation_files(str(root)))


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("dev.jsonl", json.dumps({"q": TEXT, "n": 3, "a": [{"t": "因为"}]}), {TEXT, "因为"}),
        ("dev.jsonl", f'\ufeff{{"q": "{TEXT}"}}\r\n', {TEXT}),
        ("dev.jsonl", '{"q": "甲", "q": "乙"}', {"甲", "乙"}),  # of a doubled key nothing is lost
        ("dev.json", json.dumps({"data": [{"paragraphs": [{"context": TEXT}]}]}, indent=2), {TEXT}),
        ("dev.json", '{"q": "甲"}\n{"q": "乙"}\n', {"甲", "乙"}),  # lines, as CLUE names them
        ("dev.tsv", f"q\ta\n{TEXT}\t因为\n", {f"q\ta\n{TEXT}\t因为\n"}),
        ("dev.csv", f'"{TEXT}\n续",1', {f'"{TEXT}\n续",1'}),
        ("dev.txt", f"\ufeff{TEXT}", {TEXT}),
        ("dev.jsonl", "", set()),
    ],
)
def test_text_is_read_in_each_form(tmp_path, name, content, texts):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / name).write_text(content, encoding="utf-8", newline="")
    (tmp_path / "task" / f"more.{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert read(tmp_path) == {"task": texts}


def test_a_deep_value_is_read_and_binary_text_is_text(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 400 + json.dumps(TEXT) + "]" * 400)
    table = pyarrow.table({"q": pyarrow.array([TEXT.encode(), b"\xff\xd8"], pyarrow.binary())})
    pyarrow.parquet.write_table(table, tmp_path / "binary.parquet")
    assert read(tmp_path) == {"deep": {TEXT}, "binary": {TEXT}}


def test_links_are_followed_and_loops_end(tmp_path):
    root, elsewhere = tmp_path / "evaluation", tmp_path / "elsewhere"
    write(root, a__dev_jsonl='"甲"', a__b__dev_jsonl='"乙"')
    write(elsewhere, dev_jsonl='"丙"', test_txt="丁")
    (root / "linked").symlink_to(elsewhere)
    (root / "file.txt").symlink_to(elsewhere / "test.txt")
    (root / "a/b/up").symlink_to(root / "a")  # back to a folder above
    (root / "a/root").symlink_to(root)
    (elsewhere / "self").symlink_to(elsewhere)
    assert read(root) == {"a": {"甲", "乙"}, "linked": {"丙", "丁"}, "file": {"丁"}}
    assert unread_files(str(root)) == ""


def test_what_is_not_read_is_named(tmp_path):
    write(tmp_path, a__dev_jsonl='"甲"', a__train_jsonl='"乙"', training_json='"乙"')
    assert unread_files(str(tmp_path)) == (
        f"{tmp_path}: not read: 2 files of training text (train*); evaluation text is *.jsonl, "
        "*.json, *.tsv, *.csv, *.txt (each plain, .gz, .xz or .zst) or *.parquet"
    )
    write(tmp_path, a__paper_pdf="", a__b__dev_bz2="")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.jsonl").symlink_to("itself.jsonl")
    named = "a/b/dev.bz2, a/paper.pdf, gone.jsonl, itself.jsonl, 2 files of training text (train*)"
    assert f"not read: {named};" in unread_files(str(tmp_path))
    for number in range(10):
        write(tmp_path, **{f"z{number}_doc": ""})
    assert ", z4.doc, 5 more, 2 files of training text" in unread_files(str(tmp_path))
    assert read(tmp_path) == {"a": {"甲"}}


def test_what_is_about_a_set_is_passed_over(tmp_path):
    write(tmp_path, dev_jsonl='"甲"', a__SOURCE_json='"乙"', a__README_md="", README_txt="丙")
    write(tmp_path, LICENSE_txt="丁", a__licence_md="", _hidden_jsonl='"戊"')
    (tmp_path / "README").write_text("")
    (tmp_path / ".git").mkdir()
    write(tmp_path / ".git", config_txt="己")
    os.rename(tmp_path / "_hidden.jsonl", tmp_path / ".hidden.jsonl")
    assert read(tmp_path) == {"dev": {"甲"}} and unread_files(str(tmp_path)) == ""


def test_a_set_may_be_named_like_a_page_about_it(tmp_path):
    write(tmp_path, license_plates_jsonl='"甲"', readme_questions_json='"乙"')
    assert read(tmp_path) == {"license_plates": {"甲"}, "readme_questions": {"乙"}}


def test_of_a_tfds_dataset_nothing_is_left_unread(tmp_path):
    answers = {"text": ["因为"], "answer_start": [0]}
    record = {"id": "1", "context": "上下文", "question": TEXT, "answers": answers}
    small_sets.write_tfds(tmp_path / "xquad_zh_en", "zh", [record])
    assert read(tmp_path) == {"xquad_zh_en": {"1", "上下文", TEXT, "因为"}}
    assert unread_files(str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [("dev.jsonl", r"dev\.jsonl, line 2: not JSON"), ("dev.txt", r"dev\.txt, line 2: not UTF-8")],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, message):
    (tmp_path / name).write_bytes(b'"x"\n{\xff' if name[-1] == "t" else b'"x"\n{no')
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_folder_without_evaluation_text_is_refused(tmp_path):
    write(tmp_path, a__train_jsonl='"甲"', a__paper_pdf="")
    with pytest.raises(InputError, match=r"holds no \*\.jsonl, .* of evaluation text"):
        read(tmp_path)
