import json
from dataclasses import replace

import pytest
from etils import epath

from tests.forked import Forked
from welm_jax.failures import StopAndLook
from welm_jax.train.lineage import Recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.spikes import Place

PLACE = Place(iteration=421, step=421, cursor=421)
FIRST = Recovery(
    id=1,
    kind="automatic",
    rule="big",
    level=1,
    onset=PLACE,
    detected=PLACE,
    target_step=300,
    target_cursor=300,
    skipped=(300, 521),
    lr_multiplier=0.8,
    degraded="",
    loss=9.1,
    median=2.1,
    threshold=0.3,
)
SECOND = replace(
    FIRST, id=2, kind="manual", onset=None, detected=None, loss=None, skipped=(600, 700)
)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(epath.Path(tmp_path) / "recovery_journal")
    journal.commit(FIRST)
    journal.commit(SECOND)
    return journal


def files(tmp_path):
    return sorted((tmp_path / "recovery_journal").iterdir())


def test_records_come_back_as_they_were(journal, tmp_path):
    assert journal.records() == [FIRST, SECOND]
    assert [file.name for file in files(tmp_path)] == ["000001.json", "000002.json"]
    assert Journal(tmp_path / "none").records() == []


def test_a_last_record_cut_short_was_never_committed_and_its_number_is_used_again(
    journal, tmp_path
):
    last = files(tmp_path)[1]
    text = last.read_text()
    for length in range(len(text.rstrip())):
        last.write_text(text[:length])
        assert journal.records() == [FIRST]
    journal.commit(SECOND)
    assert journal.records() == [FIRST, SECOND]


def test_other_files_in_the_folder_are_no_records(journal, tmp_path):
    (tmp_path / "recovery_journal" / "000001 (copy).json").write_text("{}")
    assert journal.records() == [FIRST, SECOND]


def test_a_record_that_is_there_is_never_written_over(journal):
    for record in (FIRST, SECOND, replace(SECOND, id=4)):
        with pytest.raises(StopAndLook, match="is not the next record: another process writes"):
            journal.commit(record)
    assert journal.records() == [FIRST, SECOND]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n\n"])  # editors differ
def test_an_edit_by_hand_is_named(journal, tmp_path, number, end):
    file = files(tmp_path)[number]
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "lr_multiplier": 1.0}, indent=1) + end)
    with pytest.raises(StopAndLook, match=f"{file.name} is damaged or was edited .*restore it"):
        journal.records()


def test_a_record_exchanged_for_another_sound_one_is_named(journal, tmp_path):
    other = Journal(tmp_path / "other")
    other.commit(replace(FIRST, skipped=(300, 400)))
    (tmp_path / "other" / "000001.json").replace(files(tmp_path)[0])
    with pytest.raises(StopAndLook, match="000002.json does not follow the record before it"):
        journal.records()


def test_a_missing_or_damaged_record_is_named(journal, tmp_path):
    first, second = files(tmp_path)
    text = second.read_text()
    second.write_text(text.replace(":", ";", 1))  # whole, so that no crash can have done it
    with pytest.raises(StopAndLook, match="000002.json is damaged"):
        journal.records()
    second.write_text(text)
    text = first.read_text()
    first.write_text(text.replace("{", "[", 1))
    with pytest.raises(StopAndLook, match="000001.json is damaged"):
        journal.records()
    for text in ("[]", "{}", "7", json.dumps({"sha256": ""})):
        first.write_text(text)
        with pytest.raises(StopAndLook, match="000001.json is damaged"):
            journal.records()
    first.unlink()
    with pytest.raises(StopAndLook, match="000001.json is missing"):
        journal.records()


TWO_PROCESSES = """
import sys
import jax
process, port, saw, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
from dataclasses import replace
from etils import epath
from tests.train import toy_runs
from welm_jax.failures import Failure, StopAndLook
from welm_jax.train import recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.rollback import Exhausted
from tests.train.test_recovery import FIRST

def decide():
    assert process == 0, "only process 0 decides: listings may differ"
    if saw == "nothing":
        raise StopAndLook("no such folder")
    return FIRST

try:
    assert recovery.agreed(decide, saw) == FIRST
    assert recovery.agreed(lambda: Exhausted(reason="none" * 5000), 1).reason == "none" * 5000
    folder = epath.Path(folder)
    schedule = toy_runs.Schedule(bad_cursors=frozenset(range(420, 432)))
    training = toy_runs.training(folder / f"{process}", schedule)  # arrays of its own
    training = replace(training, journal=Journal(folder / "recovery_journal"))
    state, progress = toy_runs.loop.run(training)
    print("ended", progress.cursor, hash(state.updates))
except Failure as error:
    print("stopped:", error)
"""


def in_two_processes(saw, port, folder):
    """What each of two processes printed at last, given what each of them saw."""
    running = [
        Forked(TWO_PROCESSES, [number, port, one, folder], folder / f"{number}.log")
        for number, one in enumerate(saw)
    ]
    try:
        assert [one.wait(timeout=120) for one in running] == [0, 0], running[0].output.read_text()
    finally:
        for one in running:
            one.kill()
    return [one.output.read_text().splitlines()[-1] for one in running]  # gloo speaks first


def test_two_processes_recover_as_one_and_one_of_them_writes(free_port, tmp_path):
    first, second = in_two_processes(("the same", "the same"), free_port, tmp_path)
    assert first == second and first.startswith("ended 921 ")
    [record] = Journal(epath.Path(tmp_path) / "recovery_journal").records()
    assert record.skipped == (300, 521)


@pytest.mark.parametrize(
    ("saw", "said"),
    [
        (("a", "b"), ("differ in what a recovery rests on; here it is 'a';", "here it is 'b';")),
        (("nothing", "nothing"), ("no such folder", "process 0 failed: no such folder")),
    ],
)
def test_two_processes_stop_together_if_one_saw_something_else_or_cannot_decide(
    saw, said, free_port, tmp_path
):
    ended = in_two_processes(saw, free_port, tmp_path)
    assert all(words in end for words, end in zip(said, ended, strict=True)), ended
    assert not (tmp_path / "recovery_journal").exists()
