import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest
import seqio
import tensorflow as tf

from tests.tiny_corpus import SEQUENCE_TOKENS, tokens_dir
from welm_jax.data.batches import BatchStream
from welm_jax.data.mixture import compile_mixture
from welm_jax.data.token_dataset import TokenDataset
from welm_jax.failures import InputError
from welm_jax.tasks.pretraining import TokenDataSource, rates_of, register_sources
from welm_jax.text.sources import MixtureConfig

RATES = {"news": 0.5, "books": 0.3, "english": 0.2}


@pytest.fixture(autouse=True)
def empty_registries(monkeypatch):
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})


def config(**changes):
    return MixtureConfig(**({"tokens_dir": str(tokens_dir()), "rates": RATES} | changes))


def compiled(config):
    """The mixture as a run has it that is given modules of the user's."""
    return compile_mixture(dataclasses.replace(config, rates=rates_of(config)))


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


def test_one_rate_moves_both_the_seqio_view_and_training():
    before = compiled(config())
    moved = config(rates=RATES | {"english": 0.7})
    after = compiled(moved)
    mixture = seqio.MixtureRegistry.get("welm_pretraining")
    assert mixture.get_rate(seqio.TaskRegistry.get("english")) == 0.7
    shares = []
    for mixed in (before, after):
        stream = BatchStream(mixed, 4)
        shares.append([stream.place(n)[0] for n in range(1_000)].count(1))
    assert shares == [200, 467]  # 0.2 of 1, then 0.7 of 1.5


def test_training_needs_no_seqio_for_the_same_mixture():
    assert compiled(config()) == compile_mixture(config())


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
    found = compiled(config())
    assert seqio.TaskRegistry.get("books") is theirs
    assert found["sources"][0]["folder"] == str(tokens_dir() / "books")


def test_mixture_of_a_user_is_compiled_as_it_is():
    text_task("news")
    text_task("books")
    seqio.MixtureRegistry.add("theirs", [("news", 3), ("books", 1)])
    found = compiled(config(mixture="theirs", rates={"english": 1.0}))
    assert found["mixture"] == "theirs"
    assert found["rates"] == {"books": 1, "news": 3}
    assert [source["quota"] for source in found["sources"]] == [250, 750]


def test_mixture_that_nobody_registered_is_refused():
    with pytest.raises(InputError, match="no seqio Mixture theirs; --import the module"):
        compiled(config(mixture="theirs"))


def test_datasets_of_another_folder_replace_ours(tmp_path):
    compiled(config())
    shutil.copytree(tokens_dir(), tmp_path / "tokens")
    found = compiled(config(tokens_dir=str(tmp_path / "tokens")))
    assert found["sources"][0]["folder"] == str(tmp_path / "tokens" / "books")
    assert seqio.TaskRegistry.get("books").source.folder == str(tmp_path / "tokens" / "books")
