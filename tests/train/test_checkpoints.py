import contextlib
import errno
import functools
import gc
import json
import math
import os
import resource
import shutil
import subprocess
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from benchmarks import checkpoint_damage
from tests.tiny_decoder import mesh_of
from welm_jax import run_files
from welm_jax.failures import InputError, Preempted, StopAndLook
from welm_jax.train import digests, faults, optimizer, spikes
from welm_jax.train.checkpoints import CheckpointConfig, Checkpoints, Progress
from welm_jax.train.lineage import Saved
from welm_jax.train.optimizer import OptimizerConfig
from welm_jax.train.spikes import History

ADAM = optimizer.make_adam(OptimizerConfig(max_learning_rate=1.0, warmup_steps=0, decay_steps=1))
CONFIG = CheckpointConfig(every_steps=1, keep=3)
IDENTITY = {"tokenizer": "ab12", "mixture": "cd34"}

# Orbax ends its event loop when the first array fails, while others are still being worked on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

like = checkpoint_damage.like


@pytest.fixture(autouse=True, scope="module")
def keep_what_that_leaves_from_other_tests():
    yield
    gc.collect()


@functools.cache
def some_state(seed=0):
    return checkpoint_damage.random_state(seed, mesh_of())


def always(step, attempt):
    return True


@contextlib.contextmanager
def opened(folder, config=CONFIG, identity=IDENTITY, mesh=None, **how):
    with jax.set_mesh(mesh or mesh_of()), Checkpoints(folder, config, identity, **how) as one:
        yield one


def save(folder, *steps, config=CONFIG, **how):
    """Saves steps, each with the state of its seed and its attempt, in a life of their own."""
    with opened(folder, config, **how) as one:
        for step in steps:
            step, attempt = step if isinstance(step, tuple) else (step, 0)
            one.save(some_state(step), Progress(step=step, cursor=step + 2, attempt=attempt))


@pytest.fixture(scope="module")
def steps_1_and_2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 1, 2)
    return folder


@pytest.fixture
def saved(steps_1_and_2, tmp_path):
    """A folder with steps 1 and 2."""
    return shutil.copytree(steps_1_and_2, tmp_path / "saved")


def restored_step(folder, is_valid=always, **how):
    """The step that is restored, bit for bit, and what was said."""
    said = []
    with opened(folder, None, say=said.append, **how) as one:
        found = one.restore(like(mesh_of()), is_valid)
    if found is None:
        return None, said
    assert checkpoint_damage.same_bits(found[0], some_state(found[1].step))
    return found[1].step, said


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


# Saving and restoring.


def a_history():
    """A detector's memory after a curve with a spike and numbers that are hard on JSON."""
    history = History()
    for at in range(1, 300):
        loss = 2 + math.sin(at) / 100 + (at in (260, 270)) + (math.inf if at == 280 else 0)
        place = spikes.Place(iteration=at, step=at, cursor=at)
        reading = spikes.Reading(place=place, loss=loss, gradient_norm=0.1, loss_scale=None)
        history, _, _ = spikes.judge(history, reading, spikes.SpikeConfig())
    return history


@pytest.mark.parametrize("axes", [(1, 1, 1), (2, 2, 2), (1, 1, 4)])
def test_save_then_restore_is_identity_on_any_mesh(tmp_path, axes):
    progress = Progress(
        step=7, cursor=9, guarded=2, tokens=12_345_678_901, attempt=1, history=a_history()
    )
    first, second = mesh_of(2, 1, 2), mesh_of(*axes)
    saved = checkpoint_damage.random_state(1, first)
    with opened(tmp_path, mesh=first) as one:
        one.save(saved, progress)
    with opened(tmp_path, None, mesh=second) as one:
        restored, found = one.restore(like(second), always)
    assert found == progress and found.iteration == 9
    assert checkpoint_damage.same_bits(restored, saved)
    for leaf, target in zip(*map(jax.tree.leaves, (restored.as_tree(), like(second))), strict=True):
        assert (leaf.shape, leaf.dtype) == (target.shape, target.dtype)
        assert leaf.sharding == target.sharding


def test_what_is_trained_on_after_the_save_began_is_not_in_it(tmp_path):
    next_step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    with opened(tmp_path) as one:
        now = checkpoint_damage.random_state(3, mesh_of())
        one.save(now, Progress(step=3))
        tree = now.as_tree()  # not to be used again
        for _ in range(5):
            tree = next_step(tree)
        jax.block_until_ready(tree)
    assert restored_step(tmp_path) == (3, [])


def test_nothing_saved_restores_to_none(tmp_path):
    assert restored_step(tmp_path) == (None, [])
    assert restored_step(tmp_path / "missing") == (None, [])


def test_a_reader_leaves_the_unfinished_save_of_a_live_run_alone(tmp_path):
    unfinished = tmp_path / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert restored_step(tmp_path) == (None, [])
    assert unfinished.exists()
    save(tmp_path, 1)
    assert not unfinished.exists()


def test_what_lies_on_disk_has_plain_names(tmp_path):
    save(tmp_path, 1)
    assert {path.name for path in (tmp_path / "1").iterdir()} >= {"state", "host"}
    host = json.loads((tmp_path / "1/host/metadata").read_text())
    assert set(host) == {"progress", "identity", "leaves", "in_turn", "sha256"}
    assert set(host["leaves"]) >= {"step", "adam/count", "adam/mu/blocks/up/kernel"}
    assert host["leaves"]["parameters/blocks/up/kernel"].keys() == {"shape", "dtype", "digest"}
    assert host["identity"] == IDENTITY
    assert host["progress"]["cursor"] == 3


@pytest.mark.parametrize("name", ["run[1]", "[abc]", "a*b", "what?"])
def test_a_folder_whose_name_looks_like_a_pattern_holds_checkpoints_too(tmp_path, name):
    save(tmp_path / "axb/checkpoints", 1)  # which a*b would match
    save(tmp_path / name / "checkpoints", 2)
    assert restored_step(tmp_path / name / "checkpoints") == (2, [])


def test_orbax_is_given_a_uri_as_it_is(tmp_path, monkeypatch):
    given = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ocp, "CheckpointManager", lambda folder, **_: given.append(str(folder)))
    Checkpoints("gs://bucket/run/checkpoints", CONFIG, IDENTITY)
    assert given == ["gs://bucket/run/checkpoints"]
    assert not list(tmp_path.iterdir())


# The first save is read back.


def reads_of(one, monkeypatch):
    """The arrays that are read from disk, a list for each time."""
    reads, read = [], one._read

    def noted(step, leaves, like):
        reads.append([leaf for leaf in jax.tree.leaves(like) if leaf is not ...])
        return read(step, leaves, like)

    monkeypatch.setattr(one, "_read", noted)
    return reads


def test_the_first_save_of_a_run_is_read_back_whole_and_no_later_one(tmp_path, monkeypatch):
    state = some_state(1)
    with opened(tmp_path) as one:
        reads = reads_of(one, monkeypatch)
        one.save(state, Progress(step=1))
        wanted = jax.tree.leaves(state.as_tree())
        sizes = sorted(leaf.size for third in reads for leaf in third)
        assert sizes == sorted(leaf.size for leaf in wanted)
        # No third much larger than a third: so much room there is where gradients are not.
        largest = max(leaf.size for leaf in wanted)
        for third in reads:
            assert sum(leaf.size for leaf in third) <= sum(sizes) / 3 + largest
        del reads[:]
        one.save(state, Progress(step=2))
    assert reads == []


def test_a_run_that_was_restored_reads_nothing_back(saved, monkeypatch):
    with opened(saved) as one:
        one.restore(like(mesh_of()), always)
        reads = reads_of(one, monkeypatch)
        one.save(some_state(3), Progress(step=3))
    assert reads == []


def lose_the_merged_arrays(at):
    """As Orbax did below a folder named [...]: it merged nothing, and only warned."""
    (at / "state/manifest.ocdbt").unlink()
    shutil.rmtree(at / "state/d")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lose_the_merged_arrays, "its arrays cannot be read"),
        (lambda at: flip(data_file_of(at)), r"its arrays cannot be read|\d+ arrays are not as"),
    ],
)
def test_a_first_save_that_cannot_be_restored_ends_the_run_at_once(
    tmp_path, monkeypatch, harm, reason
):
    words = f"step 1 is saved in {tmp_path} and cannot be restored .({reason}).*a folder elsewhere"
    with pytest.raises(StopAndLook, match=words), opened(tmp_path) as one:
        read = one._read

        def harm_and_read(*what):
            monkeypatch.setattr(one, "_read", read)
            harm(tmp_path / "1")
            return read(*what)

        monkeypatch.setattr(one, "_read", harm_and_read)
        one.save(some_state(1), Progress(step=1))


def test_a_lower_step_than_the_newest_is_saved(tmp_path):
    save(tmp_path, 5, 3)
    assert steps_in(tmp_path) == [3, 5]
    save(tmp_path, 4)
    assert restored_step(tmp_path, lambda step, _: step < 5) == (4, [])


def changed_at(folder, step):
    return (folder / f"{step}/host/metadata").stat().st_mtime_ns


def test_a_step_that_this_process_saved_or_restored_is_not_saved_again(tmp_path):
    with opened(tmp_path) as one:
        one.save(some_state(4), Progress(step=4))
        one.check()
        one.saved(always)  # waits
        before = changed_at(tmp_path, 4)
        one.save(some_state(5), Progress(step=4, cursor=1))
    with opened(tmp_path) as one:
        one.restore(like(mesh_of()), always)
        one.save(some_state(5), Progress(step=4, cursor=1))
    assert changed_at(tmp_path, 4) == before
    assert restored_step(tmp_path) == (4, [])


def test_any_other_checkpoint_of_the_step_is_replaced(tmp_path):
    save(tmp_path, (4, 0))
    (tmp_path / "4/host/metadata").write_text("damaged")
    save(tmp_path, (4, 0))
    assert restored_step(tmp_path) == (4, [])
    save(tmp_path, (4, 1))  # another life, another attempt
    assert restored_step(tmp_path, lambda step, attempt: attempt == 1) == (4, [])
    with opened(tmp_path) as one:
        for attempt in (1, 2):  # the same life
            one.save(some_state(4), Progress(step=4, attempt=attempt))
    assert restored_step(tmp_path, lambda step, attempt: attempt == 2) == (4, [])


# Which one is restored.


def test_the_newest_that_the_journal_admits_is_restored(tmp_path):
    save(tmp_path, (1, 0), (2, 1), (3, 0))
    assert restored_step(tmp_path, lambda step, attempt: attempt == 1) == (2, [])
    assert restored_step(tmp_path, lambda step, attempt: False) == (None, [])
    asked = []
    restored_step(tmp_path, lambda *one: asked.append(one))
    assert asked == [(3, 0), (2, 1), (1, 0)]


def test_what_is_no_checkpoint_is_ignored(tmp_path):
    for name in ("140", "150/host", "latest", "notes", "130.orbax-checkpoint-tmp", "-3", "1e9"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "160").write_text("a file")
    shutil.copytree(tmp_path / "140", tmp_path / "٣")
    assert restored_step(tmp_path) == (None, [])
    save(tmp_path, 120)
    shutil.copytree(tmp_path / "120", tmp_path / "0130")
    assert restored_step(tmp_path) == (120, [])
    with opened(tmp_path, None) as one:
        assert one.saved(always) == [Saved(step=120, cursor=122)]


def data_file_of(folder):
    """The file of a step that holds most of its arrays."""
    files = [file for file in (folder / "state").rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


@contextlib.contextmanager
def rewritten_host(folder):
    """Gives the JSON of a step to change, and seals it again."""
    file = folder / "host/metadata"
    host = json.loads(file.read_text())
    del host["sha256"]
    yield host
    file.write_text(json.dumps(run_files.sealed(host)))


def take_the_digests_of(other, folder):
    with rewritten_host(folder) as host:
        host["leaves"] = json.loads((other / "host/metadata").read_text())["leaves"]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)


DAMAGES = {
    "no JSON": (lambda at: shutil.rmtree(at / "host"), "it has no host/metadata"),
    "other JSON": (lambda at: flip(at / "host/metadata"), "its host/metadata is damaged"),
    "no arrays": (lambda at: shutil.rmtree(at / "state"), "its arrays cannot be read"),
    "a file less": (lambda at: data_file_of(at).unlink(), "its arrays cannot be read"),
    "a cut file": (lambda at: os.truncate(data_file_of(at), 999), "its arrays cannot be read"),
    "other arrays": (lambda at: take_the_digests_of(at.parent / "1", at), "are not as saved, adam"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_one_line(saved, damage):
    harm, reason = DAMAGES[damage]
    harm(saved / "2")
    step, said = restored_step(saved)
    assert step == 1 and len(said) == 1
    assert said[0].startswith("the checkpoint of step 2 is passed over: ") and reason in said[0]
    assert steps_in(saved) == [1, 2]


def test_if_all_are_damaged_nothing_begins_anew(tmp_path):
    save(tmp_path, 1, 1001)
    flip(tmp_path / "1001/host/metadata")
    shutil.rmtree(tmp_path / "1/state")
    with pytest.raises(StopAndLook) as caught:
        restored_step(tmp_path)
    assert "the checkpoint of step 1001 is passed over: its host/metadata is damaged" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    # The damaged one may be valid, nobody knows; so this is no fresh start either.
    with pytest.raises(StopAndLook, match="step 1001 is passed over"):
        restored_step(tmp_path, lambda step, attempt: False)


def test_damaged_checkpoints_of_the_first_1000_steps_do_not_keep_a_run_from_its_seed(tmp_path):
    save(tmp_path, 1000)
    flip(tmp_path / "1000/host/metadata")
    step, said = restored_step(tmp_path)
    assert step is None and said[0].startswith("the checkpoint of step 1000 is passed over: ")


def test_a_checkpoint_of_another_run_is_refused_and_never_deleted(tmp_path):
    save(tmp_path, 1)
    other = {**IDENTITY, "tokenizer": "ee99"}
    words = "1 is of a run with tokenizer = ab12, not ee99; go on with the former, or give another"
    with opened(tmp_path, identity=other) as one:
        for ask in (
            lambda: one.restore(like(mesh_of()), always),
            lambda: one.delete_invalid(lambda step, attempt: False),
            lambda: one.saved(always),
        ):
            with pytest.raises(StopAndLook, match=words):
                ask()
    with pytest.raises(StopAndLook, match="mixture = cd34, not None"):
        restored_step(tmp_path, identity={"tokenizer": "ab12"})
    assert restored_step(tmp_path) == (1, [])


def test_what_an_older_version_did_not_write_down_is_the_default(saved):
    setting = "ModelConfig.rotary_fraction"
    assert restored_step(saved, identity=IDENTITY | {setting: "1.0"}) == (2, [])
    with pytest.raises(StopAndLook, match=f"{setting} = 1.0, not 0.25"):
        restored_step(saved, identity=IDENTITY | {setting: "0.25"})


def test_a_setting_in_another_spelling_is_the_same(tmp_path):
    setting, written = "MixtureConfig.rates", "{'news': 1, 'books': 0.5}"
    save(tmp_path, 1, identity=IDENTITY | {setting: written})
    same, other = "{'books': 0.5, 'news': 1.0}", "{'news': 1, 'books': 0.25}"
    assert restored_step(tmp_path, identity=IDENTITY | {setting: same}) == (1, [])
    with pytest.raises(StopAndLook, match="MixtureConfig.rates = .* 0.5}, not .* 0.25}"):
        restored_step(tmp_path, identity=IDENTITY | {setting: other})


def test_a_checkpoint_of_another_version_is_not_passed_over(saved):
    with rewritten_host(saved / "2") as host:
        host["progress"]["colour"] = 3
    with pytest.raises(StopAndLook, match="2 is of another version of welm_jax .*colour"):
        restored_step(saved)


def test_other_shapes_and_types_are_refused_by_name_and_not_cast(saved):
    plain = like(mesh_of())

    def narrowed(leaf):
        dtype = jnp.bfloat16 if leaf.dtype == jnp.float32 else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)

    wanted = [
        (jax.tree.map(narrowed, plain), r"adam/mu/.* is float32\[.*\], wanted bfloat16\[.*in all"),
        ({**plain, "more": plain["step"]}, r"more is missing, wanted int32\[\] \(1 in all\)"),
        ({"step": plain["step"]}, "adam/count is int32.*, wanted nothing;"),
    ]
    for target, words in wanted:
        with opened(saved, None) as one:
            with pytest.raises(StopAndLook, match=f"2 does not fit this configuration: .*{words}"):
                one.restore(target, always)


def test_a_read_error_passes_over_and_deletes_nothing(saved, monkeypatch):
    read = type(epath.Path("/")).read_bytes

    def failing(path):
        if path.parts[-3:] == ("2", "host", "metadata"):
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(type(epath.Path("/")), "read_bytes", failing)
    with opened(saved) as one:
        one.delete_invalid(lambda step, attempt: step != 2)
        assert steps_in(saved) == [1, 2]
        one.restore(like(mesh_of()), always)
        one.save(some_state(3), Progress(step=3))
    assert steps_in(saved) == [1, 2, 3]
    monkeypatch.undo()
    assert restored_step(saved, lambda step, attempt: step < 3) == (2, [])


# What is deleted.


def test_what_the_journal_refuses_is_deleted_newest_first(tmp_path, monkeypatch):
    config = CheckpointConfig(every_steps=1, keep=5)
    save(tmp_path, (1, 0), (2, 0), (3, 1), (4, 0), config=config)
    (tmp_path / "5").mkdir()
    left = []
    monkeypatch.setattr(
        faults, "write_boundary", lambda name: left.append((name, steps_in(tmp_path)))
    )
    with opened(tmp_path) as one:
        one.delete_invalid(lambda step, attempt: step < 2 or attempt == 1)
        assert one.saved(always) == [Saved(step=1, cursor=3), Saved(step=3, cursor=5)]
        one.save(some_state(4), Progress(step=4, cursor=6, attempt=1))
    assert left[:2] == [
        ("checkpoint 4 of 0 is deleted", [1, 2, 3, 5]),
        ("checkpoint 2 of 0 is deleted", [1, 3, 5]),
    ]
    assert [name for name, _ in left[2:]] == [
        "checkpoint 4 of 1 comes",
        "checkpoint 4 of 1 is being written",
    ]
    assert restored_step(tmp_path) == (4, [])


class Killed(BaseException):
    """Stands for a SIGKILL."""


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_deletion_cut_short_anywhere_is_finished_by_the_next_life(
    steps_1_and_2, tmp_path, monkeypatch, every
):
    """Dies before the k-th file or folder goes, for all k or every third."""

    def is_valid(step, attempt):
        return step < 2

    def dying_after(count):
        def counted(plain):
            def one(*args, **kwargs):
                nonlocal count
                count -= 1
                if count < 0:
                    raise Killed
                return plain(*args, **kwargs)

            return one

        return counted

    for cut_after in range(0, 1000, every):
        folder = tmp_path / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(steps_1_and_2, folder)
        with opened(folder) as one, monkeypatch.context() as patch:
            dying = dying_after(cut_after)
            patch.setattr(os, "unlink", dying(os.unlink))
            patch.setattr(os, "rmdir", dying(os.rmdir))
            try:
                one.delete_invalid(is_valid)
                break
            except Killed:
                pass
        with opened(folder) as one:
            assert one.saved(is_valid) == [Saved(step=1, cursor=3)]
            one.delete_invalid(is_valid)
            assert one.saved(always) == [Saved(step=1, cursor=3)]
            assert not (folder / "2/state").exists()
            if cut_after % 8 == 0:
                assert one.restore(like(mesh_of()), always)[1].step == 1
    assert cut_after > 15  # files and folders of a step


def test_the_newest_the_lasting_and_the_pinned_are_kept(tmp_path):
    config = CheckpointConfig(every_steps=1, keep=2, keep_every_steps=3)
    asked = []

    def pinned(steps):
        asked.append(list(steps))
        return {2}

    with opened(tmp_path, config, pinned=pinned) as one:
        for step in range(1, 9):
            one.save(some_state(), Progress(step=step))
            one.saved(always)
    assert steps_in(tmp_path) == [2, 3, 6, 7, 8]
    assert asked[-1] == [2, 3, 6, 7, 8]
    assert asked[4] == [2, 3, 4, 5]


def saved_in_turn(folder, every_steps, *steps, **how):
    config = CheckpointConfig(every_steps=every_steps, keep_every_steps=every_steps * 1000, **how)
    with opened(folder, config) as one:
        if steps_in(folder):
            one.restore(like(mesh_of()), always)
        for step in steps:
            one.save(some_state(), Progress(step=step))
            one.saved(always)  # waits
    return steps_in(folder)


@pytest.mark.parametrize(("every_steps", "step"), [(21, 63), (1000, 1000), (7, 63)])
def test_another_interval_deletes_no_more_than_the_one_before(tmp_path, every_steps, step):
    assert saved_in_turn(tmp_path, 10, *range(10, 51, 10), keep=4) == [20, 30, 40, 50]
    assert saved_in_turn(tmp_path, every_steps, step, keep=4) == [30, 40, 50, step]


def test_what_was_saved_off_schedule_never_counts_for_keep(tmp_path):
    """By the schedule that it was saved under: 15 was not of it, though 5 divides it."""
    assert saved_in_turn(tmp_path, 10, 10, 15, 20, 23, keep=2) == [10, 20, 23]
    assert saved_in_turn(tmp_path, 5, 25, keep=2) == [20, 25]


def test_a_checkpoint_of_an_older_version_counts_for_keep(tmp_path):
    assert saved_in_turn(tmp_path, 10, 10, 20, keep=2) == [10, 20]
    for step in (10, 20):
        with rewritten_host(tmp_path / f"{step}") as host:
            del host["in_turn"]
    assert saved_in_turn(tmp_path, 21, 63, keep=3) == [10, 20, 63]


def test_two_stay_however_few_were_saved_in_turn(tmp_path):
    """A run that is stopped every few minutes, and never comes to a step of its schedule."""
    assert saved_in_turn(tmp_path, 1000, 13, 17, 45, keep=2) == [17, 45]


def test_damaged_ones_never_count_against_good_ones(tmp_path):
    config = CheckpointConfig(every_steps=10, keep=2)
    save(tmp_path, 10, config=CheckpointConfig(every_steps=10, keep=9))
    save(tmp_path, 20, 30, 40, 50, config=CheckpointConfig(every_steps=10, keep=9))
    (tmp_path / "20/host/metadata").unlink()
    for step in (30, 40):
        data_file_of(tmp_path / f"{step}").unlink()
    flip(tmp_path / "50/host/metadata")
    (tmp_path / "60").mkdir()
    said = []
    with opened(tmp_path, config, say=said.append) as one:
        assert one.restore(like(mesh_of()), always)[1].step == 10
        one.save(some_state(17), Progress(step=17))  # another interval, so that no step is met
        one.saved(always)
        assert steps_in(tmp_path) == [10, 17, 20, 30, 40, 50, 60]
        one.save(some_state(45), Progress(step=45))
        one.saved(always)
        assert steps_in(tmp_path) == [10, 20, 30, 40, 45, 50, 60]  # 17 was out of turn
        one.save(some_state(50), Progress(step=50))  # this one is met
    assert len(said) == 4
    assert restored_step(tmp_path) == (50, [])


def test_an_old_checkpoint_that_cannot_be_deleted_ends_nothing(tmp_path, monkeypatch):
    config = CheckpointConfig(every_steps=1, keep=2)
    said = []
    with opened(tmp_path, config, say=said.append) as one:
        with monkeypatch.context() as patch:
            for step in (1, 2, 3):
                one.save(some_state(step), Progress(step=step))
                one.saved(always)
                patch.setattr(shutil, "rmtree", refuse)
        assert said == [
            "old checkpoints stay until the next save (PermissionError: [Errno 13] not yours)"
        ]
        one.save(some_state(4), Progress(step=4))
    assert steps_in(tmp_path) == [3, 4]


def refuse(path):
    if os.path.exists(path):
        raise PermissionError(13, "not yours")
    raise FileNotFoundError


# Saves that fail.


def wait_for_failure(one, seconds=10):
    """What check() raises, which must be within the time that is promised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            one.check()
        except StopAndLook as failure:
            return str(failure)
        time.sleep(0.01)
    raise AssertionError(f"no failure was seen in {seconds} s")


@contextlib.contextmanager
def largest_file(size):
    """While it lasts the kernel lets no file grow beyond these bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def mounted(folder, options):
    """A file system of its own at a folder; skips where we may not mount."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)])
    if made.returncode:
        pytest.skip("no right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_a_failed_save_shows(folder, failing, seen_by, reason):
    """A failure is seen by check, the next save or at the end, and what was saved before stays."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(opened(folder))
        with failing, pytest.raises(StopAndLook) as caught:
            one.save(some_state(2), Progress(step=2))
            if seen_by == "check":
                raise StopAndLook(wait_for_failure(one))
            if seen_by == "save":
                one.save(some_state(3), Progress(step=3))
            stack.close()
        text = str(caught.value)
        assert text.startswith(f"saving the checkpoint of step 2 in {folder} failed (")
        assert reason in text and "\n" not in text and text.endswith("then start again")
        with contextlib.suppress(StopAndLook):  # told again, for no error is on its way out
            stack.close()
    assert restored_step(folder) == (1, [])


SEEN_BY = ("check", "save", "end")
SEEN_BY_SHORT = (SEEN_BY[0], *(pytest.param(one, marks=pytest.mark.slow) for one in SEEN_BY[1:]))


@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_a_file_that_may_not_grow_fails_the_save_within_seconds(tmp_path, seen_by):
    save(tmp_path, 1)
    before = threading.active_count()
    assert_a_failed_save_shows(tmp_path, largest_file(20_000), seen_by, "File too large")
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("seen_by", SEEN_BY_SHORT)
def test_a_full_disk_fails_the_save_within_seconds(tmp_path, seen_by):
    folder = tmp_path / "disk"
    filler = folder / "filler"
    with mounted(folder, "size=8m"):
        save(folder, 1)
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        os.truncate(filler, filler.stat().st_size - 100_000)
        never_better = contextlib.nullcontext()
        assert_a_failed_save_shows(folder, never_better, seen_by, "No space left on device")


@pytest.mark.parametrize("seen_by", SEEN_BY_SHORT)
def test_a_read_only_disk_fails_the_save_at_once(tmp_path, seen_by):
    folder = tmp_path / "disk"

    @contextlib.contextmanager
    def read_only():
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)

    with mounted(folder, "size=8m"):
        save(folder, 1)
        assert_a_failed_save_shows(folder, read_only(), seen_by, "Read-only file system")
        save(folder, 2)
        assert restored_step(folder) == (2, [])


def test_a_save_that_ends_without_its_folder_is_a_failure(tmp_path, monkeypatch):
    with pytest.raises(StopAndLook, match="step 1 in .* failed .FileNotFoundError"):
        with opened(tmp_path) as one:
            wait = one._manager.wait_until_finished

            def lose():
                wait()
                shutil.rmtree(tmp_path / "1", ignore_errors=True)

            monkeypatch.setattr(one._manager, "wait_until_finished", lose)
            one.save(some_state(1), Progress(step=1))


def test_a_save_that_fails_for_what_may_pass_says_start_again(tmp_path, monkeypatch):
    words = "saving the checkpoint of step 1 in .* failed .*Stale file handle.*start again"
    with pytest.raises(Preempted, match=words), opened(tmp_path) as one:
        wait = one._manager.wait_until_finished

        def stale():
            monkeypatch.setattr(one._manager, "wait_until_finished", wait)
            raise RuntimeError("Orbax's own words") from OSError(errno.ESTALE, "Stale file handle")

        monkeypatch.setattr(one._manager, "wait_until_finished", stale)
        one.save(some_state(1), Progress(step=1))
        one.settle()


def test_an_error_in_the_run_is_not_hidden_by_a_failed_save(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with opened(tmp_path) as one:
            one._failure = StopAndLook("saving failed")
            raise KeyboardInterrupt


def test_check_may_be_called_every_step_for_it_asks_no_disk(tmp_path, monkeypatch):
    with opened(tmp_path, None) as one, monkeypatch.context() as patch:
        for name in ("_folder", "_manager", "_watcher"):
            patch.setattr(one, name, None)
        one.check()


def test_no_thread_outlives_its_checkpoints(saved):
    before = set(threading.enumerate())
    for step in (3, 4):
        save(saved, step)
        restored_step(saved)
    # Their pools are shut down without waiting for the threads, which then end by themselves.
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in left)


# Bit flips; the long form is benchmarks/checkpoint_damage.py.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return checkpoint_damage.Damaged(tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("each", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_a_file_is_silent(damaged, each):
    found = checkpoint_damage.flip_in_files(damaged, flips=13 * each)
    assert all(counts.total() >= each for counts in found.values()) and len(found) > 10
    assert not any(counts["SILENT"] for counts in found.values()), found
    assert found["host/metadata"] == {"unreadable": each}


@pytest.mark.parametrize("flips", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_no_flipped_bit_in_host_memory_is_silent(damaged, monkeypatch, flips):
    monkeypatch.setattr(checkpoint_damage, "JSON_SHARE", flips)
    found = checkpoint_damage.flip_in_memory(damaged, flips)
    assert found == {"arrays": {"at the save": flips - 1}, "JSON": {"at the save": 1}}


def test_without_digests_flips_would_be_silent(damaged, monkeypatch):
    compared = digests.records
    damaged.save(2)
    with checkpoint_damage.flipping_an_array(np.random.default_rng(0)):
        with pytest.raises(StopAndLook, match="1 arrays are not as saved"):
            damaged.save(2, attempt=100)
    kept = json.loads((damaged.folder / "2/host/metadata").read_text())["leaves"]
    monkeypatch.setattr(digests, "records", lambda tree: kept)
    assert damaged.outcome() == "SILENT"
    monkeypatch.setattr(digests, "records", compared)
    assert damaged.outcome() == "digest"


# What may be configured.


def test_numbers_below_their_least_are_refused():
    with pytest.raises(InputError, match="CheckpointConfig.every_steps = 0; it must be 1 or more"):
        CheckpointConfig(every_steps=0)
    with pytest.raises(InputError, match="CheckpointConfig.keep = 1; it must be 2 or more"):
        CheckpointConfig(keep=1)
    with pytest.raises(InputError, match="keep_every_steps = 0; it must be 1 or more"):
        CheckpointConfig(keep_every_steps=0)
