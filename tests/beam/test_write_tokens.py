import errno
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from beam_pipelines import write_tokens as door
from beam_pipelines.document import document_id
from beam_pipelines.write_tokens import WriteTokensConfig, main, write_tokens
from tests.tiny_corpus import (
    SEQUENCE_TOKENS,
    curated_dir,
    documents,
    tokenizer_file,
    tokens_dir,
    write_curated,
)
from welm_jax.data.batches import BatchStream
from welm_jax.data.mixture import compile_mixture
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.failures import InputError, StopAndLook
from welm_jax.text.sources import MixtureConfig
from welm_jax.text.tokenizer import Tokenizer

# A module of a user's, outside the repository.
USER_MODULE = """
import seqio
import tensorflow as tf

STORIES = {"train": ["从前有一座山。", "山里有一座庙。\\n"], "validation": ["庙里有个老和尚。"]}


def source(text, **splits):
    return seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
            {text: splits[split]}
        ),
        splits=list(splits),
    )


as_text = {"targets": seqio.Feature(seqio.PassThroughVocabulary(1), dtype=tf.string, rank=0)}
as_bytes = {"targets": seqio.Feature(seqio.ByteVocabulary())}


def rename(dataset):
    return dataset.map(lambda example: {"targets": example["story"]})


add = seqio.TaskRegistry.add
add("my_stories", source("targets", **STORIES), as_text, preprocessors=[])
add(
    "my_tokenised_stories",
    source("story", **STORIES),
    as_bytes,
    preprocessors=[rename, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
)
add("no_training", source("targets", test=["a"]), as_text, preprocessors=[])
add("no_text", source("targets", train=[[7, 8]]), {"targets": seqio.Feature(
    seqio.PassThroughVocabulary(9), add_eos=False)}, preprocessors=[])
add("news", source("targets", train=["a"]), as_text, preprocessors=[])
"""


def config(output_dir, **changes):
    settings = {
        "curated_dir": str(curated_dir()),
        "tokenizer": str(tokenizer_file()),
        "output_dir": str(output_dir),
        "sequence_tokens": SEQUENCE_TOKENS,
    }
    return WriteTokensConfig(**(settings | changes))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def text_of(folder, split):
    tokenizer = Tokenizer(tokenizer_file())
    return [tokenizer.decode(document) for document in TokenDataset(folder, split).documents()]


def tables_of(folder, split):
    """Per shard, the number of each document's first target and the document's id."""
    shards = TokenDataset(folder, split).metadata.splits[split].shards
    return [np.load(folder / shard.documents_file).tolist() for shard in shards]


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    import seqio

    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    package = tmp_path / "my_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_pkg.tasks"
    for name in ("my_pkg", "my_pkg.tasks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("source", ["news", "books", "english"])
def test_dataset_holds_the_documents_and_nothing_else(source):
    count = {"news": 120, "books": 70, "english": 40}[source]
    written = text_of(tokens_dir() / source, "train")
    assert sorted(written) == sorted(documents(source, "train", count))


def test_held_out_documents_are_a_split_of_their_own():
    assert sorted(text_of(tokens_dir() / "news", "heldout")) == sorted(
        documents("news", "heldout", 12)
    )


def test_source_with_nothing_held_out_has_no_such_split():
    assert list(TokenDataset(tokens_dir() / "books", "train").metadata.splits) == ["train"]
    assert not list((tokens_dir() / "books").glob("*heldout*"))


@pytest.mark.parametrize("split, count", [("train", 120), ("heldout", 12)])
def test_beside_each_file_lies_which_document_begins_where(split, count):
    tokenizer = Tokenizer(tokenizer_file())
    texts = documents("news", split, count)
    tables = tables_of(tokens_dir() / "news", split)
    assert len(tables) == 2
    for index, table in enumerate(tables):
        target, expected = 0, []
        for text in texts[index::2]:
            expected.append((target, hashlib.md5(text.encode()).hexdigest().encode()))
            target += len(tokenizer.encode(text)) + 1  # each document's end is a target too
        assert table == expected


def test_metadata_has_the_digest_of_every_table():
    splits = TokenDataset(tokens_dir() / "news", "train").metadata.splits.values()
    told = {s.documents_file: s.documents_sha256 for split in splits for s in split.shards}
    stored = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tokens_dir() / "news").glob("*.npy")
    }
    assert told == stored
    assert "news-train.documents-00001-of-00002.npy" in stored


def test_writing_again_gives_the_same_files(tmp_path):
    write_tokens(config(tmp_path))
    for source in ("news", "books", "english"):
        assert contents(tmp_path / source) == contents(tokens_dir() / source)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["books", "english", "ledger.json", "news", "samples.json", "tokenizer.model"]


def test_tokenizer_and_ledger_go_with_the_datasets():
    assert (tokens_dir() / "tokenizer.model").read_bytes() == tokenizer_file().read_bytes()
    assert (tokens_dir() / "ledger.json").read_bytes() == (
        curated_dir() / "ledger.json"
    ).read_bytes()


def test_new_datasets_replace_all_old_ones(tmp_path):
    shutil.copytree(tokens_dir(), tmp_path / "out")
    curated = write_curated(tmp_path / "c", {("news", "train"): ["天黑了。"]}, shards=1)
    write_tokens(config(tmp_path / "out", curated_dir=str(curated)))
    assert text_of(tmp_path / "out" / "news", "train") == ["天黑了。"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["ledger.json", "news", "samples.json", "tokenizer.model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "out"]


def test_folder_that_holds_no_token_datasets_is_not_replaced(tmp_path):
    shutil.copytree(curated_dir(), tmp_path / "c")
    with pytest.raises(InputError, match="/c holds something else, which would be replaced"):
        write_tokens(config(tmp_path / "c"))
    assert (tmp_path / "c" / "documents").is_dir()


def test_source_whose_documents_are_gone_is_left_out(tmp_path, capsys):
    texts = {("news", "train"): [], ("news", "heldout"): ["a"], ("books", "train"): ["b"]}
    curated = write_curated(tmp_path / "c", texts)
    written = write_tokens(config(tmp_path / "out", curated_dir=str(curated)))
    assert [metadata.source for metadata in written] == ["books"]
    assert not (tmp_path / "out" / "news").exists()
    assert capsys.readouterr().err == "news: no training documents, so no token dataset\n"


def test_documents_without_text_are_still_counted(tmp_path):
    curated = write_curated(tmp_path / "c", {("a", "train"): ["", "天黑了。", ""]}, shards=1)
    [metadata] = write_tokens(config(tmp_path / "out", curated_dir=str(curated)))
    assert metadata.splits["train"].documents == 3
    assert text_of(tmp_path / "out" / "a", "train") == ["", "天黑了。", ""]
    [table] = tables_of(tmp_path / "out" / "a", "train")
    assert [begin for begin, _ in table] == [0, 1, metadata.splits["train"].tokens - 1]


def test_shard_without_documents_has_an_empty_table(tmp_path):
    curated = write_curated(tmp_path / "c", {("a", "train"): ["天黑了。"]}, shards=2)
    write_tokens(config(tmp_path / "out", curated_dir=str(curated)))
    assert [len(table) for table in tables_of(tmp_path / "out" / "a", "train")] == [1, 0]


@pytest.mark.parametrize("damage", ["other name", "not UTF-8"])
def test_documents_without_readable_ids_stop(tmp_path, damage):
    curated = write_curated(tmp_path / "c", {("a", "train"): ["天黑了。"]}, shards=1)
    [shard] = (curated / "documents" / "a").iterdir()
    table = pyarrow.parquet.read_table(shard)
    if damage == "other name":
        table = table.rename_columns({"doc_id": "id"})
    pyarrow.parquet.write_table(table, shard, compression="none", use_dictionary=False)
    if damage == "not UTF-8":
        name = hashlib.md5("天黑了。".encode()).hexdigest().encode()
        shard.write_bytes(shard.read_bytes().replace(name, b"\xff" * 32))
    with pytest.raises(StopAndLook, match="train-.*parquet is damaged .*curate again"):
        write_tokens(config(tmp_path / "out", curated_dir=str(curated)))


def unfinished(folder):
    write_curated(folder, {("a", "train"): ["b"]})
    (folder / "ledger.json").unlink()


@pytest.mark.parametrize(
    "prepare, message",
    [
        (Path.mkdir, "beam_pipelines.curate first, or set CURATED_DIR"),
        (unfinished, "no whole ledger.json and samples.json, so its curation did not end"),
        (
            lambda folder: write_curated(folder, {("a", "train"): []}),
            "no source has any training document left",
        ),
    ],
)
def test_corpus_without_documents_is_refused_and_leaves_old_rows(tmp_path, prepare, message):
    shutil.copytree(tokens_dir() / "news", tmp_path / "out" / "a")
    prepare(tmp_path / "c")
    with pytest.raises(InputError, match=message):
        write_tokens(config(tmp_path / "out", curated_dir=str(tmp_path / "c")))
    assert contents(tmp_path / "out" / "a") == contents(tokens_dir() / "news")


def test_damaged_documents_stop_and_leave_old_rows(tmp_path):
    shutil.copytree(tokens_dir() / "news", tmp_path / "out" / "news")
    curated = shutil.copytree(curated_dir(), tmp_path / "c")
    shard = next((curated / "documents" / "news").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StopAndLook, match="train-.*parquet is damaged .*curate again"):
        write_tokens(config(tmp_path / "out", curated_dir=str(curated)))
    assert contents(tmp_path / "out" / "news") == contents(tokens_dir() / "news")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "out"]


def test_rows_of_a_run_that_died_are_removed(tmp_path):
    (tmp_path / ".out.partial" / "new" / "news").mkdir(parents=True)
    (tmp_path / ".out.partial" / "new" / "news" / "left over").touch()
    write_tokens(config(tmp_path / "out"))
    assert contents(tmp_path / "out" / "news") == contents(tokens_dir() / "news")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_worker_whose_disk_is_full_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    def die(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "rows")

    monkeypatch.setattr(door, "write_rows", die)
    with pytest.raises(StopAndLook, match="No space left on device: 'rows'; make room"):
        write_tokens(config(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_wrong_tokenizer_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="tokenizer .*none cannot be read"):
        write_tokens(config(tmp_path, tokenizer=str(tmp_path / "none")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--runer=FnApiRunner"], "--runer is not a flag of this command or of Beam"),
        (["stray"], "stray is not an option"),
        (["--import"], "argument --import: expected one argument .*; .*write_tokens --help"),
    ],
)
def test_unknown_argument_is_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        main(["--gin_file", gin_file(tmp_path), *arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.gin"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sequence_tokens": 0}, "WriteTokensConfig.sequence_tokens = 0; it must be 1 or more"),
        ({"curated_dir": "gs://b/c"}, "gs://b/c is not a path: .* a mounted folder"),
        ({"tokenizer": "gs://b/t"}, "gs://b/t is not a path"),
        ({"output_dir": "gs://b/o"}, "gs://b/o is not a path"),
    ],
)
def test_config_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        config(**({"output_dir": "unused"} | change))


@pytest.mark.parametrize("task", ["my_stories", "my_tokenised_stories"])
def test_users_task_becomes_a_dataset_like_ours(tmp_path, user_module, task):
    out = tmp_path / "out"
    write_tokens(config(out, tasks=(task,)), [user_module])
    assert text_of(out / task, "train") == ["从前有一座山。", "山里有一座庙。\n"]
    assert text_of(out / task, "heldout") == ["庙里有个老和尚。"]
    assert TokenDataset(out / task, "train").metadata.ledger_digest is None
    [table] = tables_of(out / task, "train")
    names = [document_id(task, text).encode() for text in ("从前有一座山。", "山里有一座庙。\n")]
    assert [name for _, name in table] == names
    assert contents(out / "news") == contents(tokens_dir() / "news")


@pytest.mark.parametrize(
    "task, message",
    [
        ("my_storys", "no seqio Task my_storys after importing my_pkg.tasks"),
        ("no_training", "seqio Task no_training has no split train, only test"),
        ("no_text", "seqio Task no_text has no text in targets; give its examples"),
        ("news", "news is a source and a Task; rename one of them"),
    ],
)
def test_task_that_cannot_be_written_is_refused(tmp_path, user_module, task, message):
    with pytest.raises(InputError, match=message):
        write_tokens(config(tmp_path / "out", tasks=(task,)), [user_module])
    assert not (tmp_path / "out").exists()


def test_module_that_cannot_be_imported_is_refused(tmp_path):
    with pytest.raises(InputError, match="--import no_such: No module named 'no_such'"):
        write_tokens(config(tmp_path, tasks=("a",)), ["no_such"])


def test_users_task_is_compiled_and_trained_on_like_ours(tmp_path, user_module):
    out = tmp_path / "out"
    write_tokens(config(out, tasks=("my_stories",)), [user_module])
    mixture = compile_mixture(
        MixtureConfig(tokens_dir=str(out), rates={"my_stories": 0.25, "books": 0.75})
    )
    stream = BatchStream(json.loads(json.dumps(mixture)), 8)
    stories = {source["name"]: number for number, source in enumerate(mixture["sources"])}
    taken = [stream.place(n)[0] for n in range(1_000)]
    assert taken.count(stories["my_stories"]) == 250
    row = TokenDataset(out / "my_stories", "train")[0]
    at = taken.index(stories["my_stories"])
    np.testing.assert_array_equal(stream.batch(at // 8)["decoder_target_tokens"][at % 8], row[1:])


def gin_file(tmp_path):
    lines = [f"WriteTokensConfig.{name} = %{name.upper()}" for name in ("curated_dir", "tokenizer")]
    lines += [f"CURATED_DIR = '{curated_dir()}'", f"TOKENIZER = '{tokenizer_file()}'"]
    lines += [f"WriteTokensConfig.output_dir = '{tmp_path / 'tokens'}'"]
    lines += [f"WriteTokensConfig.sequence_tokens = {SEQUENCE_TOKENS}"]
    lines += ["TokenizerConfig.vocab_size = 480"]  # another command's: no business of ours
    (tmp_path / "corpus.gin").write_text("\n".join(lines))
    return str(tmp_path / "corpus.gin")


def test_command_ends_with_a_table(tmp_path, capsys):
    main(["--gin_file", gin_file(tmp_path)])
    progress, *lines = capsys.readouterr().out.splitlines()
    assert re.match("files of tokens written .*12/12", progress)
    rows = [re.findall(r"[\w.]+", line.replace(",", "")) for line in lines if line[0] == "│"]
    assert [row[:2] for row in rows] == [["books", "70"], ["english", "45"], ["news", "132"]]
    tokens, characters, ratio = rows[2][2:5]
    assert float(ratio) == round(int(characters) / int(tokens), 2)


def test_command_loads_neither_jax_nor_tensorflow(tmp_path):
    program = (
        "import sys\n"
        "from beam_pipelines.write_tokens import main\n"
        f"main(['--gin_file', {gin_file(tmp_path)!r}])\n"
        "print(sorted({'jax', 'tensorflow', 'seqio'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    assert result.stderr == ""


def test_help_does_not_wait_for_beam():
    program = (
        "import sys\n"
        "from beam_pipelines.write_tokens import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'apache_beam' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0 False", result.stderr
    assert "--import MODULE" in result.stdout


def test_a_source_may_have_any_name_that_curation_takes(tmp_path):
    """TFDS knows only datasets whose names begin with a letter."""
    names = ["36kr", "_x", "1", "train", "config", "a__b", "n" * 100]
    corpus = tmp_path / "curated"
    shutil.copytree(curated_dir(), corpus)
    for name in names:
        shutil.copytree(corpus / "documents/news", corpus / "documents" / name)
    written = write_tokens(config(tmp_path / "out", curated_dir=str(corpus)))
    assert {*names} < {dataset.source for dataset in written}
    for name in names:
        for split in ("train", "heldout"):
            expected = text_of(tokens_dir() / "news", split)
            assert text_of(tmp_path / "out" / name, split) == expected
