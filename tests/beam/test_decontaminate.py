import gzip
import json
import re

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from beam_pipelines.curate import CurationConfig, curate
from beam_pipelines.decontaminate import read_index, shared
from beam_pipelines.dedup import make_keys
from beam_pipelines.filters import FilterConfig
from beam_pipelines.language import LANGUAGES
from beam_pipelines.near_signatures import SIGNATURES
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
    assert index.tasks == ("cmrc2018", "drcd") and index.too_short == {"cmrc2018": 1, "drcd": 0}
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


def test_parquet_is_evaluation_text_too(tmp_path):
    """As the Hugging Face Hub has it: a set that is evaluated from it is kept out of training."""
    rows = [{"idx": 0, "content": [passage(7), QUESTION], "answers": {"text": [ANSWER]}}]
    for split in ("validation", "train"):
        file = tmp_path / f"chid10/{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(pyarrow.Table.from_pylist(rows), file)
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


ENGLISH = "At the end of the day it was the river that they had come to see and nothing else there"
PEN = "The pen is on the old table of my aunt Mary in Kent"  # 39 letters


def index_of(folder, *texts):
    (folder / "quiz.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return read_index(str(folder))


@pytest.mark.parametrize("host", [passage(1), "It was said that", ""])
def test_a_few_english_words_are_nobodys_and_many_are_somebodys_in_any_text(tmp_path, host):
    few = "it was the end of the day it was the river"
    many = f"He told me: {ENGLISH[10:]}, and left."
    found = places_in(
        [f"{host}。{few}。{host}", f"{host}。{many}。{host}"], index_of(tmp_path, ENGLISH)
    )
    assert found == [0, len(re.sub("[ ,.]", "", ENGLISH[10:])) - 16]


LETTERS = (
    "whatever one of the many writers of such questions may have had in mind when asked".replace(
        " ", ""
    )
)


@pytest.mark.parametrize(
    ("run", "counts"),
    [
        (LETTERS[:59], False),
        (LETTERS[:60], True),
        ("what is the difference between 进程", False),
        ("2017年1月1日至2019年12月31日", False),
        ("刑期自2017年1月1日起至2019年12月31日止", False),  # twelve, in 17 at most eight
        ("public static void main(String[] args)", False),
        ("有限公司 All Rights Reserved", False),
        ("《Harry Potter》的作者是哪一位英国女作家", True),
        ("iPhone 6s Plus的屏幕尺寸是多少英寸", True),
        ("abcdefgh一二三四五六七八九", True),  # nine of 17
        ("abcdefghi一二三四五六七八", False),
        ("一二三四abcdefghi五六七八", False),
        ("一二三四五六七八九abcdefghijklmnopqrstuvwxyz", True),  # more letters take nothing away
        ("ひらがなとカタカナもじのもんだい", False),  # of 16
        ("ひらがなとカタカナもじのもんだいです", True),
        ("한글로 쓴 열일곱 글자가 넘는 문제 하나 둘", True),
        ("😀" * 40, False),
        ("─" * 70, False),  # a ruled line
        ("某" * 20, False),
        ("哈哈嘿嘿" * 9, False),
        ("一二三四五" * 4, True),  # the shortest that repeats and counts
    ],
)
def test_a_run_counts_by_its_ideographs_or_by_its_length(tmp_path, run, counts):
    index = index_of(tmp_path, f"问：{run}？")
    hosts = [f"{passage(1)}{run}{passage(2)}", f"Some words. {run}. More of them", run]
    assert [one.places > 0 for one in shared(hosts, index)] == 3 * [counts]


def test_runs_of_one_text_count_each_for_itself(tmp_path):
    """Two runs of 39 letters are not one of 78; and a run that counts does not lend to another."""
    index = index_of(tmp_path, PEN, ENGLISH, ANSWER)
    letters_of = re.sub("[ ,.]", "", PEN).lower()
    twice, beside = shared([f"{PEN} 和 {PEN}", f"{PEN}。{ANSWER}"], index)
    assert twice == (0, {}, "")
    assert (beside.places, beside.span) == (len(letters(ANSWER)) - 16, letters(ANSWER))
    assert index.too_short == {"quiz": 1} and 17 < len(letters_of) < 60


@pytest.mark.parametrize("seed", range(4))
def test_runs_are_found_as_by_a_slow_loop(tmp_path, seed):
    draw = np.random.default_rng(seed)
    alphabet = "abcdefgh12甲乙丙丁戊己庚辛"

    def drawn(characters):
        share = draw.choice([0.1, 0.5, 0.9])  # of ideographs
        picks = np.where(draw.random(characters) < share, 10, 0) + draw.integers(0, 8, characters)
        return "".join(alphabet[pick] for pick in picks)

    known = [drawn(90) for _ in range(6)]
    grams = {one[at : at + 17] for one in known for at in range(len(one) - 16)}

    def copied():
        begin, length = draw.integers(0, 30), draw.integers(10, 75)
        return known[draw.integers(6)][begin : begin + length]

    texts = [drawn(draw.integers(0, 9)) + copied() + drawn(5) + copied() for _ in range(80)]
    expected = []
    for text in ["", *texts]:
        places, at = 0, 0
        while at < len(text):
            end = at
            while text[end : end + 17] in grams:
                end += 1
            run = text[at : end + 16]
            dense = [sum(one >= "一" for one in text[n : n + 17]) > 8 for n in range(at, end)]
            if any(dense) or (end > at and len(run) >= 60):
                places += end - at
            at = end + 1
        expected.append(places)
    assert places_in(["", *texts], index_of(tmp_path, *known)) == expected
    assert 5 < expected.count(0) < 60


def test_radicals_and_compatibility_ideographs_do_not_hide_a_copy(tmp_path):
    index = index_of(tmp_path, "人工智能会长久地改变风力发电和食品金融行业的一切吗？")
    copy = "⼈⼯智能会⻓久地改变⻛⼒发电和⻝品\uf90a融⾏业的⼀切吗"
    assert places_in([copy], index) == [len(copy) - 16]


def test_a_task_of_marks_alone_has_nothing_to_find(tmp_path):
    for name, text in (("marks", "？！"), ("empty", ""), ("quiz", QUESTION)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps([text]))
    index = read_index(str(tmp_path))
    assert index.too_short == {"empty": 1, "marks": 1, "quiz": 0}
    assert places_in(["", "？？", QUESTION], index) == [0, 0, len(letters(QUESTION)) - 16]
    (tmp_path / "quiz.jsonl").unlink()
    assert places_in(["", "？？", QUESTION], read_index(str(tmp_path))) == [0, 0, 0]
    assert shared([], index) == []


def test_a_cut_emoji_in_evaluation_text_is_left_out_of_it(tmp_path):
    (tmp_path / "quiz.jsonl").write_text(json.dumps("\ud83d".join(QUESTION)), encoding="utf-8")
    assert places_in([QUESTION], read_index(str(tmp_path))) == [len(letters(QUESTION)) - 16]


# The whole way: from files to documents.


def curated(folder, texts, evaluation, **changes):
    """The texts that curation keeps, and its ledger."""
    for name, mine in {"raw/web": texts, "evaluation": evaluation}.items():
        (folder / name).mkdir(parents=True)
        lines = (json.dumps({"text": text}) + "\n" for text in mine)
        (folder / name / "a.jsonl").write_text("".join(lines))
    config = CurationConfig(
        raw_dir=str(folder / "raw"),
        output_dir=str(folder / "out"),
        evaluation_dir=str(folder / "evaluation"),
    )
    curate(config, FilterConfig(languages=LANGUAGES, **changes))
    files = sorted((folder / "out/documents/web").glob("*.parquet"))
    kept = [text for file in files for text in pq.read_table(file)["text"].to_pylist()]
    return sorted(kept), json.loads((folder / "out/ledger.json").read_text())


def sentences(seed, count=4):
    return "".join(f"{passage(100 * seed + number, 24)}。" for number in range(count))


def test_18_characters_or_two_times_17_contaminate_and_17_or_16_do_not(tmp_path):
    question, answer = letters(QUESTION), letters(ANSWER)
    planted = ("", question[:16], question[:17], question[:18], question[3:20] + "丨" + answer[:17])
    texts = [sentences(seed) + run + "。" for seed, run in enumerate(planted)]
    kept, ledger = curated(tmp_path, texts, [QUESTION, ANSWER])
    assert kept == sorted(texts[:3]) and ledger["contaminated"] == {"a": {"web": 2}}


def test_texts_without_a_letter_pass_every_stage(tmp_path):
    (tmp_path / "words.txt").write_text("坏蛋\nbad word", encoding="utf-8")
    texts = ["……！！", "——？？", "，" * 200]
    kept, ledger = curated(
        tmp_path,
        texts,
        ["？", "！"],
        applies_rules=False,
        offensive_words=str(tmp_path / "words.txt"),
    )
    assert kept == sorted(texts) and ledger["config"]["too_short_to_find"] == {"a": 2}


def test_no_clean_text_is_lost_to_one_that_is_contaminated(tmp_path):
    """What is kept is what would be if the contaminated texts had never been there."""
    copied = [sentences(seed, 12) for seed in range(4)]
    copied.append(copied[3][:-8] + "。")  # lost to the longer copy, which is clean
    clean = [*copied, sentences(8, 12)]
    # A longer copy with a question in it, of a text that has a copy too; and two alike.
    leaks = [one + QUESTION for one in copied] + [sentences(9, 12) + QUESTION * n for n in (1, 2)]
    kept, ledger = curated(tmp_path / "both", [*leaks[:3], *clean, *leaks[3:]], [QUESTION])
    alone, _ = curated(tmp_path / "alone", clean, [QUESTION])
    assert kept == alone == sorted([*clean[:4], clean[5]])
    # The stages meet what the one before passed: leaks near to another text go before their turn.
    stages = ledger["sources"]["web"]
    assert stages["exact_duplicates"]["passed"]["documents"] == len(clean + leaks)
    near_ones = stages["near_duplicates"]["near_duplicate"]["documents"]
    leaked = stages["contamination"].get("contaminated", {"documents": 0})["documents"]
    assert near_ones + leaked == 1 + len(leaks) and leaked >= 1


def test_exact_duplicates_share_the_verdict(tmp_path):
    """They are equal where texts are compared, so that no clean one can be lost to a leak."""
    leak = f"{passage(1)}，Abc {QUESTION}⻛"
    copies = [leak, leak.replace("，", "。\n\n"), leak.upper(), leak.replace("⻛", "风\u200b")]
    keys = make_keys(copies, ["00" * 16] * 4, 0, 0, SIGNATURES["minhash"])
    assert len(np.unique(keys["exact"], axis=0)) == 1
    found = shared(copies, index_of(tmp_path, QUESTION))
    assert found == [found[0]] * 4 and found[0].places == len(letters(QUESTION)) - 16
