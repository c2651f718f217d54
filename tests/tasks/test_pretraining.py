import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import seqio
import tensorflow as tf

from tests.tiny_corpus import SEQUENCE_TOKENS, VOCAB_SIZE, tokenizer_file, tokens_dir
from welm_jax.data.batches import BatchStream
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.failures import InputError
from welm_jax.tasks.pretraining import (
    TokenDataSource,
    compile_mixture,
    register_sources,
)
from welm_jax.text.sources import MixtureConfig
from welm_jax.text.tokenizer import Tokenizer

RATES = {"news": 0.5, "books": 0.3, "english": 0.2}


@pytest.fixture(autouse=True)
def empty_registries(monkeypatch):
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})


def config(**changes):
    return MixtureConfig(**({"tokens_dir": str(tokens_dir()), "rates": RATES} | changes))


def targets(dataset):
    return [example["targets"] for example in dataset.as_numpy_iterator()]


def test_importing_hides_gpus_from_tensorflow():
    assert tf.config.get_visible_devices("GPU") == []


def test_seqio_gives_the_rows_of_the_token_dataset():
    register_sources(config())
    task = seqio.TaskRegistry.get("news")
    rows = targets(task.get_dataset({"targets": SEQUENCE_TOKENS + 1}, "train", shuffle=False))
    dataset = TokenDataset(tokens_dir() / "news", "train")
    np.testing.assert_array_equal(rows, [dataset[row] for row in range(len(dataset))])
    assert task.num_input_examples("train") == len(dataset)
    assert set(task.splits) == {"train", "heldout"}


def test_source_shuffles_by_its_seed():
    source = TokenDataSource(str(tokens_dir() / "news"))
    plain, once, again, other = (
        targets(source.get_dataset("train", shuffle=seed is not None, seed=seed))
        for seed in (None, 1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert (np.array(once) != np.array(other)).any()
    assert sorted(map(tuple, once)) == sorted(map(tuple, plain))


def test_shards_of_a_source_are_disjoint_and_whole():
    source = TokenDataSource(str(tokens_dir() / "news"))
    parts = [
        targets(source.get_dataset("train", shuffle=False, shard_info=seqio.ShardInfo(index, 3)))
        for index in range(3)
    ]
    together = sorted(tuple(row) for part in parts for row in part)
    assert together == sorted(map(tuple, targets(source.get_dataset("train", shuffle=False))))


def test_seqio_mixes_the_registered_sources():
    mixture = register_sources(config())
    rows = {
        name: {tuple(TokenDataset(tokens_dir() / name, "train")[row]) for row in range(20)}
        for name in RATES
    }
    dataset = mixture.get_dataset(
        {"targets": SEQUENCE_TOKENS + 1}, "train", shuffle=False, num_epochs=1
    )
    seen = Counter()
    for example in dataset.take(30).as_numpy_iterator():
        seen.update(name for name in rows if tuple(example["targets"]) in rows[name])
    assert set(seen) == set(RATES)


def test_compiled_mixture_is_the_contract():
    compiled = compile_mixture(config(seed=3))
    assert json.loads(json.dumps(compiled)) == compiled
    sources = compiled.pop("sources")
    assert compiled == {
        "format": 1,
        "mixture": "welm_pretraining",
        "rates": RATES,
        "seed": 3,
        "sequence_tokens": SEQUENCE_TOKENS,
        "vocab_size": VOCAB_SIZE,
        "tokenizer_sha256": Tokenizer(tokenizer_file()).sha256,
        "block": 1000,
    }
    assert [source["name"] for source in sources] == ["books", "english", "news"]
    assert [source["quota"] for source in sources] == [300, 200, 500]
    for source in sources:
        folder = tokens_dir() / source["name"]
        metadata = (folder / "token_metadata.json").read_bytes()
        assert source["folder"] == str(folder)
        assert source["rows"] == len(TokenDataset(folder, "train"))
        assert source["fingerprint"] == hashlib.sha256(metadata).hexdigest()


def test_order_in_which_gin_names_the_rates_does_not_matter():
    backwards = dict(reversed(RATES.items()))
    assert compile_mixture(config(rates=backwards)) == compile_mixture(config())


def test_one_rate_moves_both_the_seqio_view_and_training():
    before = compile_mixture(config())
    moved = config(rates=RATES | {"english": 0.7})
    after = compile_mixture(moved)
    mixture = seqio.MixtureRegistry.get("welm_pretraining")
    assert mixture.get_rate(seqio.TaskRegistry.get("english")) == 0.7
    shares = []
    for compiled in (before, after):
        stream = BatchStream(compiled, 4)
        shares.append([stream.place(n)[0] for n in range(1_000)].count(1))
    assert shares == [200, 467]  # 0.2 of 1, then 0.7 of 1.5


def test_source_of_rate_zero_is_left_out():
    compiled = compile_mixture(config(rates=RATES | {"english": 0.0, "not_even_there": 0.0}))
    assert [source["name"] for source in compiled["sources"]] == ["books", "news"]


@pytest.mark.parametrize(
    "rates, message",
    [
        ({"new": 1.0}, "source new has a rate but no token dataset .*did you mean news"),
        ({"zzz": 1.0}, "source zzz has a rate .*there are books, english, news"),
        ({"news": 0.0}, "each must be at least 0 and one above 0"),
        ({"news": 1.0, "books": 1e-5}, "rate 1e-05 of books is no whole sample in 1000"),
    ],
)
def test_rates_that_cannot_be_trained_on_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        compile_mixture(config(rates=rates))


@pytest.mark.parametrize("field, value", [("tokenizer_sha256", "ab" * 32), ("sequence_tokens", 64)])
def test_sources_that_do_not_go_together_are_refused_by_name(tmp_path, field, value):
    shutil.copytree(tokens_dir(), tmp_path / "tokens")
    path = tmp_path / "tokens" / "news" / "token_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(
        InputError, match=f"books and news do not go together: {field} is .*{value}"
    ):
        compile_mixture(config(tokens_dir=str(tmp_path / "tokens")))


def text_task(name):
    return seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"targets": ["天黑了"]}
            ),
            splits=["train"],
        ),
        preprocessors=[],
        output_features={
            "targets": seqio.Feature(seqio.PassThroughVocabulary(1), dtype=tf.string, rank=0)
        },
    )


def test_task_of_a_user_is_left_alone_and_its_dataset_trained_on():
    theirs = text_task("books")
    compiled = compile_mixture(config())
    assert seqio.TaskRegistry.get("books") is theirs
    assert compiled["sources"][0]["folder"] == str(tokens_dir() / "books")


def test_mixture_of_a_user_is_compiled_as_it_is():
    text_task("news")
    text_task("books")
    seqio.MixtureRegistry.add("theirs", [("news", 3), ("books", 1)])
    compiled = compile_mixture(config(mixture="theirs", rates={"english": 1.0}))
    assert compiled["mixture"] == "theirs"
    assert compiled["rates"] == {"books": 1, "news": 3}
    assert [source["quota"] for source in compiled["sources"]] == [250, 750]


def test_mixture_that_nobody_registered_is_refused():
    with pytest.raises(InputError, match="no seqio Mixture theirs; --import the module"):
        compile_mixture(config(mixture="theirs"))


def test_datasets_of_another_folder_replace_ours(tmp_path):
    compile_mixture(config())
    shutil.copytree(tokens_dir(), tmp_path / "tokens")
    compiled = compile_mixture(config(tokens_dir=str(tmp_path / "tokens")))
    assert compiled["sources"][0]["folder"] == str(tmp_path / "tokens" / "books")
    assert seqio.TaskRegistry.get("books").source.folder == str(tmp_path / "tokens" / "books")
