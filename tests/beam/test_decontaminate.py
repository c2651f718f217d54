import gzip
import json
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from beam_pipelines.decontaminate import read_index, shared
from tests.tasks import small_sets
from welm_jax.failures import InputError

QUESTION = "一九七八年春天，小镇上的图书馆为什么关了整整三个月的门，而后来又为什么提前重新开放？"
ANSWER = "因为屋顶漏水，管理员们等到雨季过去以后才把书一本一本地搬回原来的架子上。"
TRADITIONAL = "因為屋頂漏水，管理員們等到雨季過去以後才把書一本一本地搬回原來的架子上。"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    (root / "cmrc2018").mkdir()
    items = [{"question": QUESTION, "answers": [{"text": ANSWER}, {"text": "屋顶漏水"}], "id": 7}]
    lines = "".join(json.dumps(one) + "\n" for one in items).encode()
    (root / "cmrc2018" / "validation.jsonl.gz").write_bytes(gzip.compress(lines))
    (root / "cmrc2018" / "train.jsonl").write_text(json.dumps({"text": passage(9)}) + "\n")
    (root / "drcd.jsonl").write_text(json.dumps({"context": ANSWER + passage(8)}) + "\n")
    return str(root)


def passage(seed, characters=200):
    random = np.random.default_rng(seed)
    return "".join(map(chr, random.integers(0x4E00, 0x8000, size=characters)))


def places_in(texts, index):
    return [one.places for one in shared(texts, index)]


def letters(text):
    return "".join(one for one in text if one not in "，。？")


@pytest.mark.parametrize(("length", "places"), [(16, 0), (17, 1), (18, 2), (34, 18)])
def test_a_run_of_n_characters_is_shared_at_n_minus_16_places(folder, length, places):
    planted = passage(1) + letters(QUESTION + ANSWER)[:length] + passage(2)
    nothing, found, empty = shared([passage(3), planted, ""], read_index(folder))
    assert (nothing.places, found.places, empty.places) == (0, places, 0)
    assert found.span == (letters(QUESTION + ANSWER)[:length] if places else "")


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: " ".join(text),
        lambda text: text.replace("，", "！\n"),
        lambda text: TRADITIONAL if text == ANSWER else text,
    ],
)
def test_blanks_marks_and_the_other_script_do_not_hide_a_copy(folder, disguise):
    index = read_index(folder)
    plain, hidden = places_in([ANSWER, disguise(ANSWER)], index)
    assert plain == hidden == len(letters(ANSWER)) - 16


def test_tasks_are_told_apart_and_what_is_trained_on_is_none(folder):
    index = read_index(folder)
    assert index.tasks == ("cmrc2018", "drcd") and index.without_gram == {"cmrc2018": 1, "drcd": 0}
    long = len(letters(ANSWER)) - 16
    both, one, none = shared([ANSWER, letters(QUESTION)[:20], passage(9)], index)
    assert both.tasks == {"cmrc2018": long, "drcd": long}
    assert one.tasks == {"cmrc2018": 4} and none == (0, {}, "")


def test_every_place_is_found_as_by_brute_force(folder):
    index = read_index(folder)
    draw = np.random.default_rng(0)
    known = [letters(QUESTION), letters(ANSWER), letters(ANSWER + passage(8))]
    grams = {one[at : at + 17] for one in known for at in range(len(one) - 16)}
    source = letters(QUESTION + ANSWER)
    texts = []
    for seed in range(60):
        begin, length = draw.integers(0, 40), draw.integers(0, 40)
        texts.append(passage(100 + seed, 30) + source[begin : begin + length] + passage(seed, 9))
    expected = [sum(one[at : at + 17] in grams for at in range(len(one))) for one in texts]
    assert places_in(texts, index) == expected and sum(expected) > 100


def test_a_folder_without_evaluation_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no \\*.jsonl"):
        read_index(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("{no")
    with pytest.raises(InputError, match="a.jsonl is no JSONL of evaluation text"):
        read_index(str(tmp_path))


def test_parquet_is_evaluation_text_too(tmp_path):
    """As the Hugging Face Hub has it: a set that is evaluated from it is kept out of training."""
    rows = [{"idx": 0, "content": [passage(7), QUESTION], "answers": {"text": [ANSWER]}}]
    for split in ("validation", "train"):
        file = tmp_path / f"chid10/{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        rows = [{"text": passage(9)}]
    one, other, none = shared([letters(QUESTION)[:20], ANSWER, passage(9)], read_index(tmp_path))
    assert (one.tasks, other.places, none.places) == ({"chid10": 4}, len(letters(ANSWER)) - 16, 0)
    file = tmp_path / "chid10/validation-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="00001.parquet is a damaged Parquet file .*fetch it"):
        read_index(tmp_path)


def test_a_tfds_dataset_is_evaluation_text_too(tmp_path):
    answers = {"text": [ANSWER], "answer_start": [0]}
    record = {"id": "1", "context": passage(7), "question": QUESTION, "answers": answers}
    small_sets.write_tfds(tmp_path / "xquad_zh_en", "zh", [record])
    found, other = shared([letters(QUESTION)[:20], ANSWER], read_index(tmp_path))
    assert (found.tasks, other.places) == ({"xquad_zh_en": 4}, len(letters(ANSWER)) - 16)


def test_the_span_is_the_first_run_and_no_longer(folder):
    two = passage(1) + letters(QUESTION)[:19] + passage(2) + letters(ANSWER)[:25] + passage(3)
    [found] = shared([two], read_index(folder))
    assert found.places == 3 + 9 and found.span == letters(QUESTION)[:19]
    assert shared([passage(4), two], read_index(folder))[1] == found


def test_a_few_english_words_are_nobodys_and_many_are_somebodys(tmp_path):
    english = (
        "At the end of the day it was the river that they had come to see and nothing else there"
    )
    (tmp_path / "en.jsonl").write_text(json.dumps({"question": english}))
    index = read_index(str(tmp_path))
    few, many = (
        "it was the end of the day it was the river",
        f"He told me: {english[10:]}, and left.",
    )
    in_chinese = passage(1) + few + passage(2)
    assert places_in([few, many], index) == [0, len(re.sub("[ ,.]", "", english[10:])) - 16]
    assert places_in([in_chinese], index)[0] > 10  # where no four words of English are common
