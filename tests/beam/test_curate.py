import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import curate as recipe
from beam_pipelines import filters
from beam_pipelines.curate import STAGES, CurationConfig, curate
from beam_pipelines.curated_files import replacing
from beam_pipelines.dealing import Dealing
from beam_pipelines.document import SCHEMA, Document, DropReason, draw
from beam_pipelines.filters import FilterConfig
from beam_pipelines.ledger import Ledger
from beam_pipelines.read_sources import Record
from welm_jax.failures import InputError, StopAndLook, run_door


def passage(seed: int, sentences: int = 4) -> str:
    """Chinese text of its own, 26 characters a sentence."""
    random = np.random.default_rng(seed)
    rows = random.integers(0x4E00, 0x8000, size=(sentences, 24))
    return "".join(
        "".join(map(chr, row[:12])) + "，" + "".join(map(chr, row[12:])) + "。" for row in rows
    )


ENGLISH = (
    "This is the river that they crossed with all their horses, and it is the one that they fear."
)
NEWS = [passage(seed) for seed in range(30)]
NEAR = NEWS[7].replace(NEWS[7][50], "改", 1)[:-4] + "。"
# Text -> the reason that it must be dropped for.
DROPPED = {
    "": DropReason.EMPTY,
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。": DropReason.LANGUAGE_JA,
    "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로.": DropReason.LANGUAGE_KO,
    "１２３９．９０，１２４２·２１。": DropReason.LANGUAGE_OTHER,
    "这本书的内容很一般，不推荐。": DropReason.TOO_SHORT,
    "外观漂亮，电池很牛！" * 6: DropReason.REPETITIVE,
    NEWS[3].replace("，", " ，\n"): DropReason.EXACT_DUPLICATE,
    NEAR: DropReason.NEAR_DUPLICATE,
}
# The copy of NEWS[3] is longer, so it is the one that stays.
KEPT_NEWS = [*NEWS[:3], NEWS[3].replace("，", " ，\n"), *NEWS[4:], ENGLISH]
LINES = [json.dumps({"text": text, "url": "http://a/b"}) for text in (*NEWS, ENGLISH, *DROPPED)]
BOOKS = {f"{number}.txt": passage(1000 + number, 40) for number in range(3)}


def write_corpus(root: Path, files: int = 1) -> Path:
    """Writes the same corpus, its news cut into this many files."""
    (root / "news").mkdir(parents=True)
    (root / "books").mkdir()
    for number in range(files):
        lines = "".join(f"{line}\n" for line in LINES[number::files])
        (root / "news" / f"part{number}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name, text in BOOKS.items():
        (root / "books" / name).write_text(text, encoding="utf-8")
    return root


FILTERS = FilterConfig()


def config_for(raw: Path, output: Path, **changes) -> CurationConfig:
    return CurationConfig(raw_dir=str(raw), output_dir=str(output), **changes)


def visible(folder: Path) -> list[str]:
    """What a user sees there; work that can be gone on with is hidden."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def rows_of(output: Path, source: str, split: str = "*") -> list[dict]:
    files = sorted((output / "documents" / source).glob(f"{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def documents_digest(output: Path) -> dict[str, str]:
    files = sorted((output / "documents").rglob("*"))
    return {
        str(file.relative_to(output)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


@pytest.fixture(scope="module")
def curated(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("curated")
    curate(config_for(write_corpus(root / "raw"), root / "out", shards=2), FILTERS)
    return root / "out"


def test_what_is_good_is_kept_exactly_and_once(curated):
    rows = rows_of(curated, "news")
    assert sorted(row["text"] for row in rows) == sorted(KEPT_NEWS)
    assert {row["language"] for row in rows if row["text"] == ENGLISH} == {"en"}
    assert {row["language"] for row in rows if row["text"] != ENGLISH} == {"zh"}
    assert {row["url"] for row in rows} == {"http://a/b"}
    assert len({row["doc_id"] for row in rows}) == len(rows)
    assert sorted(row["text"] for row in rows_of(curated, "books")) == sorted(BOOKS.values())


def test_every_drop_is_counted_under_its_reason(curated):
    ledger = json.loads((curated / "ledger.json").read_text())
    news = ledger["sources"]["news"]
    counted = {
        reason: sizes["documents"]
        for stage in STAGES[:-1]
        for reason, sizes in news[stage].items()
        if reason != "passed"
    }
    assert counted == {str(reason): 1 for reason in DROPPED.values()}
    characters = sum(map(len, KEPT_NEWS))
    assert news["totals"]["kept"]["documents"] == len(KEPT_NEWS)
    assert news["totals"]["kept"]["characters"] == characters
    assert news["totals"]["read"]["bytes"] == sum(len(line.encode()) + 1 for line in LINES)
    [file] = [one for name, one in ledger["inputs"].items() if name.startswith("news/")]
    assert file["decompressed_bytes"] == news["totals"]["read"]["bytes"]


@pytest.mark.parametrize(
    ("languages", "text", "reason"),
    [
        *((("zh", "en"), text, reason) for text, reason in list(DROPPED.items())[1:-2]),
        (("en",), NEWS[0], DropReason.LANGUAGE_ZH),
        (("zh",), ENGLISH, DropReason.LANGUAGE_EN),
    ],
)
def test_a_text_is_judged_by_language_and_then_by_the_rules(languages, text, reason):
    ledger = Ledger()
    record = Record(0, 9, Document(doc_id="0", source="news", text=text))
    assert filters.judge([record], "news", ledger, FilterConfig(languages=languages)) == []
    lost = {verdict for (_, _, verdict) in ledger.counts} - {"passed"}
    assert lost == {str(reason)}


def test_who_displaced_whom_is_told(curated):
    lines = [
        json.loads(line)
        for file in sorted((curated / "duplicates").iterdir())
        for line in file.read_text().splitlines()
    ]
    kept = {row["text"]: row["doc_id"] for row in rows_of(curated, "news")}
    told = {line["reason"]: line["displaced_by"] for line in lines}
    assert told == {"exact_duplicate": kept[KEPT_NEWS[3]], "near_duplicate": kept[NEWS[7]]}


def test_the_output_has_the_agreed_layout(curated):
    names = {str(one.relative_to(curated)) for one in curated.rglob("*") if one.is_file()}
    assert names == {
        "ledger.json",
        "samples.json",
        *(f"duplicates/{n:06d}.jsonl" for n in range(4)),
    } | {
        f"documents/{source}/{split}-0000{shard}-of-00002.parquet"
        for source in ("books", "news")
        for split in ("train", "heldout")
        for shard in (0, 1)
    }
    for name in names:
        if not name.startswith("documents/"):
            continue
        assert pq.read_schema(curated / name).equals(SCHEMA)
    assert not [one for one in curated.parent.iterdir() if one.name.startswith(".")]


def test_both_splits_of_each_source_have_documents_and_share_none(curated):
    for source in ("books", "news"):
        train, heldout = (
            {row["doc_id"] for row in rows_of(curated, source, split)}
            for split in ("train", "heldout")
        )
        assert train and heldout and not train & heldout


def test_output_depends_neither_on_the_files_nor_on_the_hash_seed(curated, tmp_path):
    """The command line on three files, in a process of another hash seed, and a second time."""
    write_corpus(tmp_path / "raw", files=3)
    gin = tmp_path / "corpus.gin"
    gin.write_text(
        "CurationConfig.raw_dir = %RAW_DIR\nCurationConfig.output_dir = %CURATED_DIR\n"
        "CurationConfig.shards = 2\n"
    )
    command = [sys.executable, "-m", "beam_pipelines.curate", "--gin_file", str(gin)]
    command += [f"--gin.RAW_DIR={tmp_path / 'raw'}", f"--gin.CURATED_DIR={tmp_path / 'out'}"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Shanghai", "LC_ALL": "C"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "near_duplicate" in ended.stdout
    assert documents_digest(tmp_path / "out") == documents_digest(curated)
    mine, theirs = (
        json.loads((one / "ledger.json").read_text()) for one in (tmp_path / "out", curated)
    )
    assert mine["sources"] == theirs["sources"] and mine["config"] == theirs["config"]


GOOD = "".join(f"{line}\n" for line in LINES[:5]).encode()


@pytest.fixture(scope="module")
def harmed(tmp_path_factory) -> tuple[Path, list[str]]:
    """Curated from sources with damage of many kinds, and the lines on standard error."""
    root = tmp_path_factory.mktemp("harmed")
    raw = write_corpus(root / "raw")
    for source in ("forum", "press", "shop"):
        (raw / source).mkdir()
    (raw / "news/bad.jsonl").write_bytes(GOOD + b"\xff\n{\n")
    (raw / "books/cut.txt.gz").write_bytes(gzip.compress(NEWS[0].encode())[:-9])
    lines = [json.dumps({"text": passage(seed, 60)}) for seed in range(9000, 9023)]
    (raw / "forum/a.jsonl").write_text("\n".join([*lines[:3], "<html>"]))
    (raw / "press/a.jsonl").write_text("\n".join(lines[3:]))
    (raw / "press/cut.jsonl.gz").write_bytes(gzip.compress(NEWS[0].encode())[:9])
    (raw / "shop/a.txt").write_text("这本书的内容很一般，不推荐。", encoding="utf-8")
    with contextlib.redirect_stderr(io.StringIO()) as err:
        curate(config_for(raw, root / "out", max_dead_letters=0.2), FILTERS)
    return root / "out", err.getvalue().splitlines()


def test_damage_is_listed_with_its_place_and_the_rest_is_kept(harmed):
    out, _ = harmed
    letters = {
        file.name: [json.loads(line) for line in file.read_text().splitlines()]
        for file in (out / "dead_letters").iterdir()
    }
    assert letters["news-bad.jsonl.jsonl"] == [
        {"file": "news/bad.jsonl", "offset": len(GOOD), "length": 2, "reason": "undecodable"},
        {"file": "news/bad.jsonl", "offset": len(GOOD) + 2, "length": 2, "reason": "not_json"},
    ]
    [cut] = letters["books-cut.txt.gz.jsonl"]
    assert (cut["offset"], cut["reason"]) == (0, "damaged_file")
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger["sources"]["news"]["totals"]["dead_lettered"]["documents"] == 2
    assert len(rows_of(out, "news")) == len(KEPT_NEWS)


def test_sources_of_which_much_cannot_be_read_or_nothing_is_kept_are_named(harmed):
    """Where all in all it is little: a quarter of records, and a file that lost few of them."""
    out, said = harmed
    shares = {"books": "25.0%", "forum": "25.0%", "press": "50.0%"}
    assert said == [
        *(
            f"{source}: {share} of its bytes, records or files cannot be read, see dead_letters"
            for source, share in shares.items()
        ),
        "shop: no document is kept (the reasons are above)",
    ]
    assert rows_of(out, "shop") == []


def test_a_corpus_of_which_nothing_is_kept_is_refused(tmp_path):
    write_corpus(tmp_path / "raw")
    with pytest.raises(InputError, match="no document is kept .*: change the files or the lang"):
        curate(config_for(tmp_path / "raw", tmp_path / "out"), FilterConfig(languages=("other",)))
    assert visible(tmp_path) == ["raw"]


def test_a_failure_leaves_the_earlier_output_as_it_was(tmp_path, monkeypatch, curated):
    write_corpus(tmp_path / "raw")
    output = tmp_path / "out"
    earlier = output / "documents/news/train-00000-of-00001.parquet"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    (tmp_path / ".out.partial/new").mkdir(parents=True)  # of a run that was killed

    def refuse(ledger, stages):
        raise StopAndLook("the ledger does not add up")

    monkeypatch.setattr(Ledger, "check", refuse)
    with pytest.raises(StopAndLook):
        curate(config_for(tmp_path / "raw", output), FILTERS)
    assert visible(tmp_path) == ["out", "raw"]
    assert [path for path in output.rglob("*") if path.is_file()] == [earlier]
    monkeypatch.undo()
    monkeypatch.setattr(recipe, "_PART_BYTES", 500)  # many parts and slices, the same result
    monkeypatch.setattr(recipe, "_SLICE_BYTES", 500)
    curate(config_for(tmp_path / "raw", output, shards=2), FILTERS)
    assert documents_digest(output) == documents_digest(curated)


def test_a_worker_that_dies_leaves_nothing(tmp_path, monkeypatch):
    def die(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "out/file")

    monkeypatch.setattr(recipe, "write_shard", die)
    with pytest.raises(StopAndLook, match="No space left on device: 'out/file'; make room"):
        curate(config_for(write_corpus(tmp_path / "raw"), tmp_path / "out"), FILTERS)
    assert visible(tmp_path) == ["raw"]


def test_two_jobs_do_not_write_one_output(tmp_path):
    write_corpus(tmp_path / "raw")
    with replacing(tmp_path / "out", "*") as folder:
        with pytest.raises(InputError, match="out is being written by another job; wait for it"):
            curate(config_for(tmp_path / "raw", tmp_path / "out"), FILTERS)
        (folder / "mine").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_output_below_a_file_is_refused_by_the_system(tmp_path):
    write_corpus(tmp_path / "raw")
    with pytest.raises(OSError, match="raw/books/0.txt"):
        curate(config_for(tmp_path / "raw", tmp_path / "raw/books/0.txt/out"), FILTERS)


def test_a_folder_that_is_no_curated_corpus_is_not_replaced(tmp_path):
    write_corpus(tmp_path / "raw")
    with pytest.raises(InputError, match="holds something else, .* a folder of its own"):
        curate(config_for(tmp_path / "raw", tmp_path / "raw"), FILTERS)
    assert (tmp_path / "raw/books/0.txt").is_file()


@pytest.mark.parametrize("documents", [2, 3, 120])
@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.9])
def test_neither_split_is_ever_empty(documents, fraction):
    dealing = Dealing(shards=1, held_out_fraction=fraction)
    for first in range(0, 2000, 100):
        ids = [f"{number:032x}" for number in range(first, first + documents)]
        draws = [draw(doc_id, "held out") for doc_id in ids]
        splits = [dealing.split(doc_id, (min(draws), max(draws))) for doc_id in ids]
        assert {"train", "heldout"} == set(splits), first


def test_a_single_document_is_for_training():
    dealing = Dealing(shards=1, held_out_fraction=0.999)
    number = draw("00", "held out")
    assert dealing.split("00", (number, number)) == "train"


def test_about_the_asked_share_is_held_out():
    dealing = Dealing(shards=1, held_out_fraction=0.05)
    splits = [dealing.split(f"{number:032x}", (0, 2**63)) for number in range(20000)]
    # 1,000 expected, standard deviation sqrt(20000 * 0.05 * 0.95) = 31.
    assert abs(splits.count("heldout") - 1000) < 4 * 31


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encodings": {"news": "gbk2"}},
            "encodings: 'gbk2' is not an encoding of text; use a name such as gb18030",
        ),
        ({"held_out_fraction": 0.0}, "held_out_fraction 0.0: set it between 0 and 1"),
        ({"shards": 0}, "CurationConfig.shards = 0; it must be 1 or more"),
        ({"raw_dir": "gs://bucket/raw"}, "gs://bucket/raw is not a path: .* a mounted folder"),
        ({"output_dir": "s3://out"}, "s3://out is not a path"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        CurationConfig(**{"raw_dir": "raw", "output_dir": "out", **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gin.RAW_DIR={}/nowhere"], "no corpus at .*/nowhere: give a folder laid out as"),
        (["stray"], "stray is not an option; options are written --NAME=VALUE, see --help"),
        (["--direct_num_workers", "2"], "2 is not an option"),
        (["--runer=FnApiRunner"], "--runer is not a flag of this command or of Beam"),
        (["--runner=Nope"], "Unexpected pipeline runner: Nope. Valid values are"),
        (["--runner=no_such.Runner"], "No module named 'no_such'"),
        (["--direct_num_workers=two"], "argument --direct_num_workers: invalid int value: 'two'"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_one_line_and_exit_status_2(
    tmp_path, capfd, arguments, message
):
    write_corpus(tmp_path / "raw")
    places = [f"--gin.RAW_DIR={tmp_path / 'raw'}", f"--gin.CURATED_DIR={tmp_path / 'out'}"]
    command = ["--gin_file", "corpus/quickstart.gin", *places]
    command += [argument.format(tmp_path) for argument in arguments]
    assert run_door(recipe.main, command, "curate") == 2
    [line] = capfd.readouterr().err.splitlines()
    assert re.match(f"curate: error: {message}", line)
    assert visible(tmp_path) == ["raw"]


def test_help_shows_an_example_and_loads_no_beam():
    code = "import atexit, sys; from beam_pipelines.curate import main"
    code += "; atexit.register(lambda: print(*{'apache_beam', 'jax', 'seqio'} & {*sys.modules}))"
    code += "; main(['--help'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--gin_file gin_configs/corpus/quickstart.gin" in ended.stdout
    assert ended.stdout.splitlines()[-1] == ""


def test_records_count_as_well_as_bytes(tmp_path):
    """Rows without a text weigh nothing, and half of a source may be of them."""
    write_corpus(tmp_path / "raw")
    rows = {"url": [f"http://a/{number}" for number in range(9)]}
    pq.write_table(pa.table({"content": ["x"] * 9, **rows}), tmp_path / "raw/news/drift.parquet")
    text = r"^0.0% of the bytes and (\d+\.\d)% of the records .*: most of all in news/drift.parquet"
    with pytest.raises(StopAndLook, match=text):
        curate(config_for(tmp_path / "raw", tmp_path / "out"), FILTERS)


def test_dead_letters_of_files_with_any_name_are_kept(tmp_path):
    raw = tmp_path / "raw"
    names = ["长" * 80 + end + ".jsonl" for end in "甲乙"]  # 249 bytes
    names += ["书.jsonl".encode("gbk").decode("utf-8", "surrogateescape")]
    write_corpus(raw)
    for name in names:
        (raw / "news" / name).write_text("<html>\n")
    curate(config_for(raw, tmp_path / "out", max_dead_letters=1.0), FILTERS)
    letters = [json.loads(one.read_text()) for one in (tmp_path / "out/dead_letters").iterdir()]
    assert {letter["file"] for letter in letters} == {f"news/{name}" for name in names}


def test_what_evaluation_has_is_not_in_the_corpus(tmp_path):
    write_corpus(tmp_path / "raw")
    (tmp_path / "evaluation").mkdir()
    item = json.dumps({"question": NEWS[5][10:60]})
    (tmp_path / "evaluation/cmrc.jsonl").write_text(item + "\n")
    evaluation = str(tmp_path / "evaluation")
    curate(config_for(tmp_path / "raw", tmp_path / "out", evaluation_dir=evaluation), FILTERS)
    texts = {row["text"] for row in rows_of(tmp_path / "out", "news")}
    assert texts == set(KEPT_NEWS) - {NEWS[5]}
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    assert ledger["sources"]["news"]["contamination"]["contaminated"]["documents"] == 1
    assert ledger["contaminated"] == {"cmrc": {"news": 1}}
    samples = json.loads((tmp_path / "out/samples.json").read_text())
    [leak] = samples["news"]["contamination"]["contaminated"]
    assert leak["text"].startswith("cmrc: ") and leak["text"][6:].startswith(NEWS[5][10:12])


# What to wait for before the kill, below the hidden folder: each pass at work, in turn.
MOMENTS = (
    "aside/*.done",
    "aside/*.done",
    "aside/*.arrow",
    "documents/*/.*",
    "documents/*/*.parquet",
)


def seen(folder, pattern):
    """What of a pattern is in a folder that another process works in: parts of it may vanish."""
    try:
        return {*folder.glob(pattern)}
    except FileNotFoundError:
        return set()


@pytest.mark.parametrize("moments", [MOMENTS[2::2], pytest.param(MOMENTS, marks=pytest.mark.slow)])
def test_a_job_killed_in_any_pass_is_gone_on_with_and_ends_the_same(tmp_path, moments):
    write_corpus(tmp_path / "raw")
    big = [json.dumps({"text": passage(seed, 60)}) for seed in range(5000, 5600)]
    for number in range(3):
        (tmp_path / f"raw/books/slow{number}.jsonl").write_text("\n".join(big[number::3]))
    places = [f"--gin.RAW_DIR={tmp_path / 'raw'}", f"--gin.CURATED_DIR={tmp_path / 'out'}"]
    flags = ["--gin_file", "corpus/quickstart.gin"]
    command = [sys.executable, "-m", "beam_pipelines.curate", *flags]
    new, done = tmp_path / ".out.partial/new", {}
    for moment in moments:
        before = seen(new, moment) if "documents" not in moment else set()
        with subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL) as job:
            while not seen(new, moment) - before and job.poll() is None:
                time.sleep(0.001)
            job.kill()
        assert job.returncode == -signal.SIGKILL and not (tmp_path / "out").exists()
        now = {file.name: file.stat().st_mtime_ns for file in (new / "aside").glob("*.done")}
        assert now.items() >= done.items()  # not one was made anew
        done = now
    recipe.main([*flags, *places])
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == []
    recipe.main([*flags, *places[:1], f"--gin.CURATED_DIR={tmp_path / 'whole'}"])
    for name in ("ledger.json", "samples.json"):
        out, whole = (tmp_path / folder / name for folder in ("out", "whole"))
        assert out.read_bytes() == whole.read_bytes()
    assert documents_digest(tmp_path / "out") == documents_digest(tmp_path / "whole")


def test_two_worker_processes_write_the_same(curated, tmp_path):
    write_corpus(tmp_path / "raw", files=2)
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    curate(config_for(tmp_path / "raw", tmp_path / "out", shards=2), FILTERS, workers)
    assert documents_digest(tmp_path / "out") == documents_digest(curated)


def test_too_much_that_cannot_be_read_stops_names_the_worst_and_is_not_read_again(tmp_path):
    write_corpus(tmp_path / "raw")
    (tmp_path / "raw/books/cut.txt.gz").write_bytes(gzip.compress(NEWS[0].encode() * 9)[:-9])
    text = r"of the bytes and [\d.]+% of the records cannot be read, and 1 of 5 files are damaged; "
    text += r".*allows 1.0% of each: most of all in books/cut.txt.gz \(dead letters: 1, of [\d,]+ "
    text += r"bytes, the first at offset 0: damaged_file\); mend it"
    with pytest.raises(StopAndLook, match=text):
        curate(config_for(tmp_path / "raw", tmp_path / "out", shards=3), FILTERS)
    assert visible(tmp_path) == ["raw"]
    aside = tmp_path / ".out.partial/new/aside"
    for file in aside.glob("*.done"):
        cleaned = pickle.loads(file.read_bytes())
        cleaned.ledger.inputs |= {"seen": {"source": "seen", "decompressed_bytes": 0}}
        file.write_bytes(pickle.dumps(cleaned))
    config = config_for(tmp_path / "raw", tmp_path / "out", max_dead_letters=0.5)
    curate(config, FILTERS)
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    assert "seen" in ledger["inputs"]
    names = [path.name for path in (tmp_path / "out/documents/news").iterdir()]
    assert sorted(names) == ["heldout-00000-of-00001.parquet", "train-00000-of-00001.parquet"]


def test_an_earlier_output_outlives_a_kill_between_two_renames(tmp_path):
    write_corpus(tmp_path / "raw")
    earlier = tmp_path / ".out.partial/old/documents/news/train-00000-of-00001.parquet"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    with pytest.raises(InputError, match="no document is kept"):
        curate(config_for(tmp_path / "raw", tmp_path / "out"), FilterConfig(languages=("other",)))
    assert [path.name for path in (tmp_path / "out").rglob("*.parquet")] == [earlier.name]


def test_an_interrupted_job_says_that_it_can_be_gone_on_with(tmp_path, monkeypatch, capfd):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "write_shard", interrupt)
    write_corpus(tmp_path / "raw")
    places = [f"--gin.RAW_DIR={tmp_path / 'raw'}", f"--gin.CURATED_DIR={tmp_path / 'out'}"]
    command = ["--gin_file", "corpus/quickstart.gin", *places]
    assert run_door(recipe.main, command, "curate") == 75
    assert "interrupted; the same command goes on" in capfd.readouterr().err
    assert len([*(tmp_path / ".out.partial/new/aside").glob("*.done")]) == 4


def test_the_ledger_names_files_by_their_content_and_not_by_their_place(tmp_path):
    write_corpus(tmp_path / "raw")
    digests = []
    for name, words in (("a", "坏蛋"), ("b", "坏蛋"), ("c", "笨蛋")):
        (tmp_path / name).write_text(words, encoding="utf-8")
        filters = FilterConfig(offensive_words=str(tmp_path / name))
        config = config_for(tmp_path / "raw", tmp_path / "out", drops_duplicates=False)
        curate(config, filters)
        text = (tmp_path / "out/ledger.json").read_text()
        assert str(tmp_path) not in text
        digests.append(json.loads(text)["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_languages_may_be_datasets_of_their_own(tmp_path):
    write_corpus(tmp_path / "raw")
    curate(config_for(tmp_path / "raw", tmp_path / "out", parts_languages=True), FILTERS)
    assert {path.name for path in (tmp_path / "out/documents").iterdir()} == {
        *("books", "news", "news_en")  # books have no English
    }
    assert [row["text"] for row in rows_of(tmp_path / "out", "news_en")] == [ENGLISH]
    assert {row["source"] for row in rows_of(tmp_path / "out", "news_en")} == {"news"}
    texts = {row["text"] for row in rows_of(tmp_path / "out", "news")}
    assert texts == set(KEPT_NEWS) - {ENGLISH}
    (tmp_path / "raw/news_en").mkdir()
    (tmp_path / "raw/news_en/a.txt").write_text(ENGLISH)
    with pytest.raises(InputError, match="news and news_en both have a dataset news_en; rename"):
        curate(config_for(tmp_path / "raw", tmp_path / "out", parts_languages=True), FILTERS)


def test_duplicates_stay_where_nobody_looks_for_them(tmp_path):
    write_corpus(tmp_path / "raw")
    curate(config_for(tmp_path / "raw", tmp_path / "out", drops_duplicates=False), FILTERS)
    texts = sorted(row["text"] for row in rows_of(tmp_path / "out", "news"))
    assert texts == sorted([*KEPT_NEWS, NEWS[3], NEAR])
