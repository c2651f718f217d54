import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from tests import tiny_corpus
from tests.conftest import xla_flags
from tests.train import test_recovery
from welm_jax import gin_files, ladder, launch, run_files
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError, Preempted, run_door
from welm_jax.ladder import Rung
from welm_jax.run_files import RunFolder
from welm_jax.subcommands import CommandFailed
from welm_jax.train.recovery import Journal

STEPS = 4
NARROW = "narrow: ModelConfig.d_model=16 MAX_LEARNING_RATE=1e-2"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """For the rungs' own processes, which compile sooner than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", xla_flags(1))
        yield


@pytest.fixture(scope="module")
def gin_file(tmp_path_factory):
    return tiny_corpus.run_gin(
        tmp_path_factory.mktemp("config") / "tiny_ladder.gin",
        100,
        "MAX_LEARNING_RATE = 1e-3",
        "MixtureConfig.rates = {'news': 1.0}",
        "ModelConfig.d_model = 8",
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "wide.gin"
    file.write_text("ModelConfig.d_model = 32\n")
    return f"wide: {file}"


def arguments(gin_file, folder, *rungs):
    common = ["--gin_file", str(gin_file), f"--gin.TRAIN_STEPS={STEPS}"]
    flags = [word for rung in rungs for word in ("--rung", rung)]
    return ["ladder", *common, "--ladder_dir", str(folder), *flags]


@pytest.fixture(scope="module")
def climbed(gin_file, wide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladders") / "ladder"
    launch.dispatch(arguments(gin_file, folder, NARROW, wide))
    return folder


def metrics(folder):
    return {name: (folder / name / "metrics.jsonl").read_bytes() for name in ("narrow", "wide")}


def texts(svg, name):
    """What the elements of a class say; the drawing is parsed as XML."""
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [one.text for one in root.iter() if one.get("class") == name]


def paths(svg):
    return re.findall(r'<path class="line (.+?)" d="(.+?)"', svg)


def test_each_rung_is_a_run_of_its_own_and_a_line_of_the_drawing(climbed, wide):
    configs = {
        name: gin_files.load([str(climbed / name / "config.gin")], [], TRAINING)
        for name in ("narrow", "wide")
    }
    found = [
        (
            config["ModelConfig"].d_model,
            config["OptimizerConfig"].max_learning_rate,
            config["LoopConfig"].train_steps,
        )
        for config in configs.values()
    ]
    assert found == [(16, 1e-2, STEPS), (32, 1e-3, STEPS)]
    svg = (climbed / ladder.DRAWING).read_text()
    assert [kind for kind, _ in paths(svg)] == ["colour-0", "colour-1"]
    assert all(path.count("L") == STEPS - 1 for _, path in paths(svg))
    # 480 x 16 for the embedding, 12 x 16^2 + 13 x 16 for the block, 2 x 16 for the last LayerNorm.
    assert texts(svg, "name") == ["narrow, 10,992 parameters", "wide, 28,128 parameters"]
    titles = ["training loss, nats per token, smoothed", "tokens trained on"]
    assert texts(svg, "title") == titles


def test_what_is_done_is_left_and_a_failing_rung_ends_it_with_its_status(
    climbed, gin_file, wide, capfd
):
    before = metrics(climbed)
    (climbed / ladder.DRAWING).unlink()
    failing = f"{NARROW} MeshConfig.tensor=3"  # only the devices can tell
    line = arguments(gin_file, climbed, wide, failing, "after:")
    assert run_door(launch.dispatch, line, "welm") == 2
    streams = capfd.readouterr()
    assert f"step {STEPS} was made before, and LoopConfig.train_steps = {STEPS}: " in streams.out
    assert metrics(climbed) == before and not (climbed / "after").exists()
    *_, refused, told = streams.err.splitlines()
    assert "does not fit 1 devices" in refused
    assert told.startswith("welm: error: rung narrow: the command above ended with status 2")
    drawn = texts((climbed / ladder.DRAWING).read_text(), "name")
    assert drawn == ["wide, 28,128 parameters", "narrow, 10,992 parameters"]


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        ("high: MAX_LEARNING_RAT=1", "rung high: .*did you mean MAX_LEARNING_RATE?"),
        ("high: ModelConfig.d_model=2.5", "rung high: .*it must be int"),
        ("high: models/welm_2b.gin", "rung high: gin file .* did you mean models/welm_2b7.gin?"),
        ("high: BATCH_SIZE = 8", "rung high: 'BATCH_SIZE' is no gin file; .* without blanks"),
        ("high: TOKENS_DIR='a b", "rung high: .*No closing quotation; quote as in a shell"),
        (NARROW, "rung narrow is given twice; give each a name of its own"),
        ("BATCH_SIZE=8", "--rung 'BATCH_SIZE=8' has no name that a folder could have; write"),
        ("../high: BATCH_SIZE=8", "has no name that a folder could have"),
    ],
)
def test_a_wrong_rung_is_refused_before_anything_is_trained(gin_file, tmp_path, rung, words):
    with pytest.raises(InputError, match=words) as error:
        launch.dispatch(arguments(gin_file, tmp_path / "ladder", NARROW, rung))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ladder").exists()


def test_the_folder_of_another_run_is_refused_before_anything_is_trained(climbed, gin_file):
    before = metrics(climbed)
    words = "rung wide: .*holds a run with ModelConfig.d_model = 32, not 8; give another folder"
    with pytest.raises(InputError, match=words):
        launch.dispatch(arguments(gin_file, climbed, "fresh:", "wide:"))
    assert metrics(climbed) == before and not (climbed / "fresh").exists()


def test_a_binding_with_blanks_and_a_module_reach_welm_train(gin_file, tmp_path):
    rung = """spaced: MixtureConfig.rates="{'news': 0.5, 'english': 0.5}" """
    [read] = ladder.read_rungs([rung], tmp_path, [str(gin_file)], ["BATCH_SIZE=16"], ["mine.tasks"])
    assert read.command == [
        *("welm", "train", "--gin_file", str(gin_file), "--gin.BATCH_SIZE=16"),
        "--gin.MixtureConfig.rates={'news': 0.5, 'english': 0.5}",
        *("--import", "mine.tasks", "--run_dir", str(tmp_path / "spaced")),
    ]


def rung(folder, name, losses, attempts=None, tokens=1000):
    """A rung whose run logged these losses."""
    run = RunFolder(folder / name)
    lines = [
        {"step": step, "loss": loss, "tokens": tokens * step, "tokens_per_second": 10.0 * step}
        | {"attempt": attempt}
        for (step, loss), attempt in zip(losses, attempts or [0] * len(losses), strict=True)
    ]
    run.path.mkdir(parents=True, exist_ok=True)
    run_files.append_lines(run.metrics, lines)
    return Rung(name=name, run=run, parameters=1_000_000, command=[])


@pytest.mark.parametrize(("status", "failure"), [(75, Preempted), (70, CommandFailed)])
def test_a_rung_that_ends_early_is_drawn_as_far_as_it_came(tmp_path, capfd, status, failure):
    curve = [(1, 6.0), (2, 5.0)]
    endings = [f"print('at ' + 'work'); raise SystemExit({code})" for code in (0, status, 0)]
    rungs = [
        dataclasses.replace(rung(tmp_path, f"r{place}", curve), command=["python", "-c", ending])
        for place, ending in enumerate(endings)
    ]
    with pytest.raises(failure, match="rung r1: ") as error:
        ladder.climb(tmp_path, rungs)
    assert error.value.status == status
    assert capfd.readouterr().out.count("at work") == 2
    assert len(paths((tmp_path / ladder.DRAWING).read_text())) == 3


def test_what_a_rollback_discarded_is_not_drawn(tmp_path):
    target = test_recovery.FIRST.target_step
    before = [(step, 5.0) for step in range(target - 9, target + 1)]
    spiked, again = [(target + 1, 9.0), (target + 2, 9.5)], [(target + 1, 4.5), (target + 2, 4.0)]
    climber = rung(tmp_path, "one", before + spiked + again, [0] * 12 + [1] * 2)
    Journal(climber.run.journal).commit(test_recovery.FIRST)
    assert [line["loss"] for line in climber.steps()] == [5.0] * 10 + [4.5, 4.0]
    assert texts(ladder.drawing([climber], [climber.steps()]), "name") == [
        "one, 1,000,000 parameters"
    ]


def test_lines_keep_their_colours_and_after_the_last_one_are_dashed(tmp_path):
    curve = [(1, 6.0), (2, 5.0)]
    rungs = [rung(tmp_path, f"r{place}", [] if place == 1 else curve) for place in range(8)]
    svg = ladder.drawing(rungs, [one.steps() for one in rungs])
    kinds = ["colour-0", "colour-2", "colour-3", "colour-4", "colour-5"]
    assert [kind for kind, _ in paths(svg)] == [*kinds, "colour-0 dashed", "colour-1 dashed"]
    styled = set(re.findall(r"\.(colour-\d|dashed) \{", svg))
    assert styled == {*(f"colour-{number}" for number in range(ladder.COLOURS)), "dashed"}


@pytest.mark.parametrize(
    ("tokens", "title"),
    [(4, "tokens trained on"), (5_000, "thousand tokens"), (3 * 10**9, "billion tokens")],
)
def test_the_axis_counts_tokens_in_a_unit_that_makes_them_short(tmp_path, tokens, title):
    one = rung(tmp_path, "one", [(step, 5.0) for step in range(1, 101)], tokens=tokens)
    svg = ladder.drawing([one], [one.steps()])
    assert texts(svg, "title")[1].startswith(title)
    assert all(len(label) <= 7 for label in re.findall(r'middle">([\d,]+)<', svg))


def test_the_table_has_what_is_known_of_each_rung(tmp_path):
    rungs = [rung(tmp_path, "one", [(1, 6.0), (2, 5.0)]), rung(tmp_path, "two", [(1, 6.5)])]
    large = dataclasses.replace(rung(tmp_path, "not_begun", []), parameters=10_385_909_760)
    rungs.append(large)
    bits = {"all": {"bits_per_character": 7.25}}
    for one in rungs[:2]:
        run_files.write_json(one.run.held_out, {"step": 2} | bits)  # of `two`: from another time
    console = Console(width=80)
    with console.capture() as capture:
        console.print(ladder.table(rungs, [one.steps() for one in rungs]))
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in capture.get().splitlines()]
    assert [row for row in rows if row] == [
        ["one", "1,000,000", "2,000", "5.000", "7.250", "15"],
        ["two", "1,000,000", "1,000", "6.500", "", "10"],
        ["not_begun", "10,385,909,760", "", "", "", ""],
    ]
