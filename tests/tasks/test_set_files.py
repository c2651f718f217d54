"""Evaluation sets as files: JSON lines, the Hugging Face Hub's Parquet, TFDS's datasets."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from etils import epath

from tests.tasks import small_sets
from welm_jax.failures import InputError
from welm_jax.tasks import chinese, cross_lingual, examples, set_files

PAGE = Path(__file__).parents[2] / "docs/evaluation_sets.md"
NLI = ["neutral", "entailment", "contradiction"]  # the Hub's orders, which are not ours
NEWS = "100 101 102 103 104 106 107 108 109 110 112 113 114 115 116".split()
APPS = [str(number) for number in range(119)]


def squad(number):
    answers = {"text": ["苹果", f"{number + 3}箱苹果"], "answer_start": [9, 7]}
    record = small_sets.squad(number)
    return record, {**record, "answers": answers}


def idioms(number):
    record, _ = small_sets.PUBLISHED["chid10"]
    record = {**record, "content": [f"第{number}段。", *record["content"]]}
    answers = {"text": ["三心二意", "井井有条", "半途而废"], "candidate_id": [1, 3, 2]}
    return record, {**record, "idx": number, "answers": answers}


def dialogue(number):
    record = {**small_sets.dialogue(number), "id": number}
    return record, {"context" if key == "document" else key: one for key, one in record.items()}


def nli(number):
    record = {key: one for key, one in small_sets.nli(number).items() if key != "id"}
    return record, {**record, "label": NLI.index(record["label"]), "idx": number}


def news(number):
    record = {"sentence": f"第{number}条新闻", "label": NEWS[number * 3]}
    return record, {**record, "label": number * 3, "idx": number}


def app(number):
    record = {"sentence": f"第{number}个应用", "label": str(number * 29), "label_des": "…"}
    return record, {"sentence": record["sentence"], "label": number * 29, "idx": number}


def pronoun(number):
    target = {"span1_text": "小明", "span1_index": 0, "span2_text": "他", "span2_index": 3}
    record = {"idx": number, "text": "小明说他累了", "target": target}
    return {**record, "label": ("true", "false")[number % 2]}, {**record, "label": number % 2}


# Folder -> a record as it is published and as the Hub has it, and the names of the Hub's classes.
HUB = {
    "c3": (dialogue, None),
    "chid10": (idioms, None),
    "cluewsc": (pronoun, ["true", "false"]),
    "cmnli": (nli, NLI),
    "cmrc2018": (squad, None),
    "drcd": (squad, None),
    "iflytek": (app, APPS),
    "ocnli": (nli, NLI),
    "tnews": (news, NEWS),
}
READERS = {one.folder: one.reader for row in chinese.ROWS for one in row.sets}


def write_parquet(file: Path, rows: list[dict], classes: list[str] | None = None) -> None:
    """One file, with what the datasets library writes into its schema."""
    features = {name: {"dtype": "string", "_type": "Value"} for name in rows[0]}
    if "content" in features:  # a list of texts; lists of features stand for it in some versions
        features["content"] = [{"dtype": "string", "_type": "Value"}]
    if classes:
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, file)


def shard(folder: Path, number: int, of: int = 1, split: str = "validation") -> Path:
    return folder / f"{split}-{number:05d}-of-{of:05d}.parquet"


@pytest.mark.parametrize("folder", HUB)
def test_the_hub_parquet_gives_the_examples_of_the_published_lines(tmp_path, folder):
    """In two shards, in their order; the train split beside it is another."""
    make, classes = HUB[folder]
    published, hub = zip(*map(make, range(5)), strict=True)
    small_sets.write(tmp_path / "lines", "validation", published)
    parquet = tmp_path / "parquet"
    write_parquet(shard(parquet, 1, 2), hub[3:], classes)
    write_parquet(shard(parquet, 0, 2), hub[:3], classes)
    write_parquet(shard(parquet, 0, split="train"), hub[:1], classes)
    told, found = (
        examples.read(epath.Path(tmp_path / form), "validation", READERS[folder])
        for form in ("lines", "parquet")
    )
    assert found == told and len({one.gold for one in found} | {one.id for one in found}) > 2
    assert len(examples.read(epath.Path(parquet), "train", READERS[folder])) == len(found) // 5
    assert set_files.has_split(epath.Path(parquet), "validation")
    assert not set_files.is_json_lines(epath.Path(parquet), "validation")
    assert set_files.is_json_lines(epath.Path(tmp_path / "lines"), "validation")


def test_the_page_names_the_folders_that_are_on_the_hub():
    [told] = re.findall(r"^Folders: (.+)\.$", PAGE.read_text(), re.M)
    assert told == ", ".join(f"`{folder}`" for folder in HUB)


def test_the_blanks_of_the_hub_have_an_answer_each():
    _, record = idioms(0)
    record["answers"] = {"candidate_id": [1, 3]}
    with pytest.raises(ValueError, match="shorter"):
        list(examples.idioms_fill(record))


def test_a_row_without_a_label_is_refused_with_its_file_and_number(tmp_path):
    """The Hub's -1 is no last class: Python would take contradiction for it."""
    rows = [nli(number)[1] for number in range(3)]
    write_parquet(shard(tmp_path, 0), [*rows, {**rows[0], "label": -1}], NLI)
    words = "00001.parquet, row 4, is not of its format: None where a text should be"
    with pytest.raises(InputError, match=words):
        examples.read(epath.Path(tmp_path), "validation", READERS["ocnli"])


def test_class_numbers_without_their_names_are_refused(tmp_path):
    write_parquet(shard(tmp_path, 0), [nli(0)[1]])
    with pytest.raises(InputError, match="row 1, is not of its format: label '1' is none of"):
        examples.read(epath.Path(tmp_path), "validation", READERS["ocnli"])


def test_parts_of_a_split_and_a_split_in_two_forms_are_refused(tmp_path):
    """A part of a set has another score, and nobody could say which of two forms has it."""
    folder = epath.Path(tmp_path)
    write_parquet(shard(tmp_path, 1, 3), [squad(0)[1]])
    assert set_files.has_split(folder, "validation")  # to be refused alone, not with other rows
    with pytest.raises(InputError, match="holds 1 of the files that .*00003.* fetch all of"):
        list(set_files.records(folder, "validation"))
    shard(tmp_path, 1, 3).rename(shard(tmp_path, 0))
    small_sets.write(tmp_path, "validation", [squad(0)[0]])
    with pytest.raises(InputError, match="twice, validation.jsonl and .*parquet; move one away"):
        list(set_files.records(folder, "validation"))


@pytest.mark.parametrize("kept", [slice(0), slice(-9), slice(400, None)])
def test_damaged_parquet_is_named_with_what_to_do(tmp_path, kept):
    file = shard(tmp_path, 0)
    write_parquet(file, [squad(number)[1] for number in range(5)])
    file.write_bytes(file.read_bytes()[kept])
    with pytest.raises(InputError, match="00001.parquet is a damaged Parquet file .*; fetch it"):
        list(set_files.records(epath.Path(tmp_path), "validation"))


def in_language(language, number):
    record = squad(number)[1]
    return {**record, "context": f"{language}: {record['context']}"}


@pytest.mark.parametrize("folder", ["xquad_zh_en", "mlqa_zh_en"])
def test_the_datasets_of_tfds_are_joined_by_id(tmp_path, folder):
    """Each language in an order of its own; what one alone has is asked in no row of ours."""
    for language, numbers in (("zh", (2, 0, 1)), ("en", (3, 1, 0, 2))):
        rows = [in_language(language, number) for number in numbers]
        small_sets.write_tfds(tmp_path / "tfds", language, rows)
    lines = [
        {"id": f"Q{at}", "zh": in_language("zh", at), "en": in_language("en", at)}
        for at in (1, 0, 2)
    ]
    small_sets.write(tmp_path / "lines", "validation", lines)
    for reader in {
        one.reader for row in cross_lingual.ROWS for one in row.sets if one.folder == folder
    }:
        told, found = (
            examples.read(epath.Path(tmp_path / form), "validation", reader)
            for form in ("lines", "tfds")
        )
        assert found == told and [one.id for one in found] == ["Q1", "Q0", "Q2"]
    assert not set_files.has_split(epath.Path(tmp_path / "tfds"), "train")


def test_tfds_is_read_without_tensorflow(tmp_path):
    small_sets.write_tfds(tmp_path, "zh", [in_language("zh", 0)])
    code = (
        "import sys; from etils import epath; from welm_jax.tasks import set_files; "
        f"[_] = set_files.records(epath.Path({str(tmp_path)!r}), 'validation'); "
        "print('tensorflow' in sys.modules, 'tensorflow_datasets' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("dataset_info.json", lambda one: one.replace(b"array_record", b"tfrecord")),
        ("dataset_info.json", lambda one: one.replace(b'"test"', b'"translate-test"')),
        ("dataset_info.json", lambda one: one[:-9]),
        ("features.json", lambda one: one[:-9]),
        ("xquad-test.array_record-00000-of-00001", lambda one: one[: len(one) // 2]),
    ],
)
def test_a_dataset_that_cannot_be_read_is_named_with_what_to_do(tmp_path, file, change):
    dataset = small_sets.write_tfds(tmp_path, "zh", [in_language("zh", at) for at in range(9)])
    (dataset / file).write_bytes(change((dataset / file).read_bytes()))
    with pytest.raises(InputError, match="zh/3.0.0 is damaged, or not built with file_format="):
        list(set_files.records(epath.Path(tmp_path), "validation"))


def test_a_language_that_is_missing_is_named(tmp_path):
    small_sets.write_tfds(tmp_path, "zh", [in_language("zh", 0)])
    with pytest.raises(InputError, match="xquad, question Q0, is not of its format: has no 'en'"):
        reader = examples.squad_in_two_languages("zh", "en", "zh")
        examples.read(epath.Path(tmp_path), "validation", reader)


def test_parquet_alone_needs_pyarrow(tmp_path, monkeypatch):
    write_parquet(shard(tmp_path, 0), [squad(0)[1]])
    small_sets.write(tmp_path / "lines", "validation", [squad(0)[0]])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert list(set_files.records(epath.Path(tmp_path / "lines"), "validation"))
    with pytest.raises(InputError, match="00001.parquet needs pyarrow: pip install"):
        list(set_files.records(epath.Path(tmp_path), "validation"))


HALF = "\\ud83d"  # as JSON writes half of an emoji


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (f'{{"context": "桥{HALF}"}}', "'context'"),
        (f'{{"answers": [{{"text": "桥"}}, {{"text": "{HALF}桥"}}]}}', "'answers'"),
        (f'{{"nobody reads it": {{"deep": ["{HALF.upper().replace("U", "u", 1)}"]}}}}', "'nobody"),
        (f'{{"{HALF}": 1}}', r"'\\ud83d'"),
        (f'["{HALF}"]', "'it'"),
        ('{"context": "\\ude00\\ud83d"}', "'context'"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_with_its_line_and_field(tmp_path, line, field):
    (tmp_path / "validation.jsonl").write_text("{}\n" + line + "\n")
    words = f"line 2, is not of its format: {field}.* holds half of a surrogate pair, '.ud"
    with pytest.raises(InputError, match=words) as refused:
        list(set_files.records(epath.Path(tmp_path), "validation"))
    str(refused.value).encode()  # it can be printed


def test_whole_surrogate_pairs_and_escaped_backslashes_are_text(tmp_path):
    (tmp_path / "validation.jsonl").write_text(r'{"context": "\ud83d\ude00 \\ud83d"}')
    [(_, record)] = set_files.records(epath.Path(tmp_path), "validation")
    assert record == {"context": "😀 \\ud83d"}


# Without a time: it is in the names of tests, which all processes of a run must agree on.
PACKED = gzip.compress(b"{}" * 99, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PACKED[:-9], "is a damaged gzip file .Compressed file ended"),
        (PACKED[:-4] + b"abcd", "is a damaged gzip file .Incorrect length"),
        (PACKED[:10] + b"\xff" * 20, "is a damaged gzip file .Error -3"),
        ('{"question": "北京"}'.encode("gbk"), "is not UTF-8 .byte 14.; convert it"),
    ],
)
def test_damaged_lines_are_named_with_what_to_do(tmp_path, content, words):
    """No traceback of gzip's, zlib's or a codec's, which would take the other tasks with it."""
    (tmp_path / "validation.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=f"validation.jsonl {words}"):
        list(set_files.records(epath.Path(tmp_path), "validation"))
