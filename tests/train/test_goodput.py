import time

from etils import epath

from welm_jax import run_files
from welm_jax.train import goodput


def test_each_moment_counts_for_the_innermost_activity(monkeypatch):
    """0 to 1 starting, to 3 steps, to 7 saving within them, to 10 steps again."""
    moments = iter([0.0, 1.0, 3.0, 7.0, 10.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = goodput.Clock()
    with clock.on(goodput.STEPS), clock.on("saving"):
        pass
    assert clock.seconds() == {"starting": 1.0, "steps": 5.0, "saving": 4.0}


def test_an_activity_is_another_once_it_has_taken_place():
    clock = goodput.Clock()
    assert clock.at_first("compiling", "steps") == "compiling"
    with clock.on("compiling"):
        pass
    assert clock.at_first("compiling", "steps") == "steps"


def test_lives_add_up_and_each_has_a_file_of_its_own(tmp_path):
    folder = epath.Path(tmp_path) / "goodput"
    first = goodput.Life(folder, goodput.Clock()).file
    run_files.write_json(first, {"until": 100.0, "seconds": {"steps": 60.0, "compiling": 20.0}})
    (folder / ".000002.json.unfinished").touch()  # of a kill
    second = goodput.Life(folder, goodput.Clock()).file
    assert (first.name, second.name) == ("000001.json", "000002.json")
    run_files.write_json(second, {"until": 150.0, "seconds": {"steps": 20.0}})
    assert goodput.of_lives(folder) == {
        "steps": 80.0,
        "compiling": 20.0,
        "down between lives": 30.0,
    }
    assert goodput.of_lives(folder / "nothing") == {}


def test_a_life_is_written_every_half_a_minute_and_at_its_end(tmp_path, monkeypatch):
    life = goodput.Life(epath.Path(tmp_path), goodput.Clock())
    moments = iter([0.0, 0.0, 29.0, 30.0, 30.0, 31.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    written = []
    for now in (False, False, False, True):
        life.file.unlink(missing_ok=True)
        life.write(now)
        written.append(life.file.exists())
    assert written == [True, False, True, True]


def test_wasted_steps_are_no_goodput():
    shares = goodput.shares({"steps": 80.0, "compiling": 20.0}, wasted=30.0)
    wasted = ("steps discarded, refused or made again", 0.3)
    assert shares == [("steps", 0.5), wasted, ("compiling", 0.2)]
    assert goodput.shares({}) == []


def test_percentiles_by_the_nearest_rank():
    assert goodput.percentiles([float(one) for one in range(1, 101)]) == {50: 50, 90: 90, 99: 99}
    assert goodput.percentiles([2.0]) == {50: 2.0, 90: 2.0, 99: 2.0}
    assert goodput.percentiles([]) == {}
