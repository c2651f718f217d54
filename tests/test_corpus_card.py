"""The data card against Table 1 worked by hand, and as a page."""

import json

import pytest

from beam_pipelines import data_card as command
from beam_pipelines.data_card import DataCardConfig, write_data_card
from beam_pipelines.ledger import PASSED, Counts, Ledger
from tests import tiny_corpus
from tests.test_report import HOSTILE, Page
from welm_jax import corpus_card
from welm_jax.failures import run_door
from welm_jax.text.records import TokenMetadata, TokenSplit

STAGES = ("read", "rules", "exact_duplicates", "near_duplicates", "contamination", "written")


def metadata(source, tokens, characters):
    split = TokenSplit(documents=3, tokens=tokens, characters=characters, rows=0, shards=())
    fields = {"source": source, "tokenizer_sha256": "0", "vocab_size": 9, "sequence_tokens": 4}
    fields |= {"eod_id": 1, "pad_id": 0, "ledger_digest": "0"}
    return TokenMetadata(**fields, splits={"train": split})


def reason(stage):
    return "contaminated" if stage == "contamination" else f"lost_in_{stage}"


@pytest.fixture
def folder(tmp_path):
    """Two sources, one of which has English as a dataset of its own."""
    ledger = Ledger()
    for source, numbers in (("books", (10, 8, 6, 6, 6)), ("news", (90, 42, 34, 30, 29))):
        before = numbers[0]
        for stage, left in zip(STAGES, numbers, strict=False):
            ledger.add(source, stage, PASSED, Counts(left, 100 * left, 30 * left))
            lost = Counts(before - left, 100 * (before - left), 30 * (before - left))
            if lost.documents:
                ledger.add(source, stage, reason(stage), lost)
            before = left
        ledger.add(source, "written", "train", Counts(before, 100 * before, 30 * before))
        ledger.measure(source, "read", [5] * 3 + [2000] * 7)
        ledger.measure(source, "kept", [2000] * 6)
        ledger.sample(source, "rules", "lost_in_rules", [("00", HOSTILE)])
    ledger.contaminated.update({("cmrc", "news"): 1})
    ledger.topics = {("books", "war"): 90, ("books", "love"): 10, ("news", "war"): 300}
    content = ledger.to_json(STAGES, {"parts_languages": True})
    (tmp_path / "ledger.json").write_text(json.dumps(content))
    (tmp_path / "samples.json").write_text(json.dumps(ledger.samples_json()))
    for name, tokens, characters in (
        ("books", 100, 150),
        ("news", 700, 1400),
        ("news_en", 200, 900),
    ):
        (tmp_path / name).mkdir()
        text = metadata(name, tokens, characters).to_json()
        (tmp_path / name / "token_metadata.json").write_text(text)
    return tmp_path


RATES = {"books": 3.0, "news": 6.0, "news_en": 1.0}


def test_table_1_by_hand(folder):
    card = corpus_card.content(folder, RATES, 2000, 4.0)
    books, news, english = card["table_1"]
    assert [row["name"] for row in card["table_1"]] == ["books", "news", "news_en"]
    assert books["filtered"] == pytest.approx(dict.fromkeys(corpus_card.UNITS, 0.4))  # 6 of 10 left
    assert english["filtered"] is None
    # 100 of 1,000 tokens, fed as 3 of 10: three times its share; 600 of 2,000 tokens fed.
    assert (books["tokens"], books["natural_share"], books["proportion"]) == (100, 0.1, 0.3)
    assert books["over_sampling"] == pytest.approx(3) and books["epochs"] == pytest.approx(6)
    assert news["epochs"] == pytest.approx(1200 / 700) and news["characters_per_token"] == 2
    assert english["over_sampling"] == pytest.approx(0.5)
    assert books["paper"]["filtered_percent"] == 40.9 and english["paper"] is None
    assert card["languages"] == pytest.approx({"zh": 0.9, "en": 0.1})
    assert card["warnings"] == ["books is seen 6.0 times; more than 4 wear it out"]


def test_rates_that_do_not_fit_the_datasets_are_told(folder):
    card = corpus_card.content(folder, {"books": 1, "law": 1}, 10, 4.0)
    assert card["languages"] == pytest.approx({"zh": 0.5, "en": 0})
    assert card["warnings"] == [
        "a rate and no tokens: law",
        "never seen, for there is no rate: news (700 tokens), news_en (200 tokens)",
    ]


def test_what_the_papers_groups_of_stages_took_of_what_came_to_them(folder):
    shares = {one["group"]: one for one in corpus_card.content(folder, RATES, 10, 4.0)["shares"]}
    # Of 100 documents the rules leave 50, duplicates 36 of these, contamination 35 of those.
    assert shares["rules and classifier"]["documents"] == pytest.approx(0.5)
    assert shares["duplicates"]["bytes"] == pytest.approx(14 / 50)
    assert shares["contamination"]["characters"] == pytest.approx(1 / 36)
    assert shares["duplicates"]["paper"] == 0.4002
    left = [one["documents"] for one in corpus_card.content(folder, RATES, 10, 4.0)["stages"]]
    assert left == [100, 100, 50, 40, 36, 35]


def test_topics_before_balancing_go_by_characters_and_after_it_by_rates(folder):
    # Books' 100 characters of 400, fed at 3 of 9, for nobody named the topics of news_en.
    [war, love] = corpus_card.content(folder, RATES, 10, 4.0)["topics"]
    assert (war["topic"], war["before"]) == ("war", pytest.approx(390 / 400))
    assert war["after"] == pytest.approx(3 / 9 * 0.9 + 6 / 9)
    assert love["after"] == pytest.approx(3 / 9 * 0.1)


def test_lengths_are_drawn_as_steps(folder):
    card = corpus_card.drawn(corpus_card.content(folder, RATES, 10, 4.0))
    # Bins 7 (5 characters) to 34 (2,000), 28 of them; the highest has 7 documents.
    assert card["length_curves"]["books"]["read"].startswith("M0.0 30V17.6H3.6V30.0H")
    assert card["length_curves"]["books"]["read"].endswith("V1.0H100.0V30")
    assert [label for _, label in card["length_marks"]] == ["10", "100", "1,000"]


def test_the_page_shows_dropped_texts_and_never_obeys_them(folder):
    write_data_card(DataCardConfig(tokens_dir=str(folder), rates=RATES, planned_tokens=2000))
    page = (folder / "data_card.html").read_text()
    assert "<script>" not in page and HOSTILE in Page(page).text
    assert "books is seen 6.0 times" in page and "40.9%" in page
    assert json.loads((folder / "data_card.json").read_text())["tokens_fed"] == 2000


def test_a_curated_folder_has_a_card_before_there_are_tokens(tmp_path):
    texts = {("news", "train"): tiny_corpus.documents("news", "train", 9)}
    folder = tiny_corpus.write_curated(tmp_path / "curated", texts)
    card = write_data_card(DataCardConfig(tokens_dir=str(folder), rates={"news": 1.0}))
    [news] = card["table_1"]
    assert (news["tokens"], news["epochs"], news["proportion"]) == (None, None, 1)
    assert Page((folder / "data_card.html").read_text()).text


def test_a_folder_without_a_ledger_is_one_line_and_exit_status_2(tmp_path, capfd):
    gin = ["--gin_file", "corpus/quickstart.gin", f"--gin.TOKENS_DIR={tmp_path}"]
    assert run_door(command.main, gin, "data_card") == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "holds no ledger.json: give the folder that write_tokens or curate wrote" in line
    assert run_door(command.main, [*gin, "--runner=x"], "data_card") == 2
    assert list(tmp_path.iterdir()) == []


def test_contamination_is_told_by_task_and_a_large_one_is_warned_of(folder):
    assert data_card_warnings(folder) == []
    ledger = json.loads((folder / "ledger.json").read_text())
    counts = ledger["sources"]["news"]["contamination"]
    counts["contaminated"]["documents"], counts[PASSED]["documents"] = 25, 5
    (folder / "ledger.json").write_text(json.dumps(ledger))
    [warning] = data_card_warnings(folder)
    assert warning.startswith("25 of 30 documents of news share text with evaluation tasks: read")
    write_data_card(DataCardConfig(tokens_dir=str(folder), rates=RATES))
    assert "cmrc" in Page((folder / "data_card.html").read_text()).text


def data_card_warnings(folder):
    rates = {"books": 0.1, "news": 0.7, "news_en": 0.2}
    return corpus_card.content(folder, rates, 10, 4.0)["warnings"]
