"""Whole training runs in processes of their own, killed for real."""

import json
import random
import re
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath

from tests import tiny_corpus
from tests.begun_run import begun_run
from tests.forked import WELM, Forked
from tests.test_stop_signals import COMPUTE, ended_by
from tests.tiny_decoder import mesh_of
from tests.train.test_checkpoints import rewritten_host
from welm_jax import gin_files, launch, run_files, runs
from welm_jax.configurables import TRAINING
from welm_jax.failures import InputError, StopAndLook
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts
from welm_jax.train import loop
from welm_jax.train.loss_scale import LossScale
from welm_jax.train.state import TrainState

STEPS = 24

# Training needs neither of these, from its first life on.
WITHOUT_TENSORFLOW = f"""
import atexit, os, sys
atexit.register(lambda: {{"seqio", "tensorflow"}} & sys.modules.keys() and os._exit(99))
{WELM}
"""


@pytest.fixture(scope="module")
def gin_file(tmp_path_factory):
    file = tiny_corpus.run_gin(
        tmp_path_factory.mktemp("config") / "tiny_run.gin",
        STEPS,
        "LoopConfig.log_every_steps = 1",
        "LoopConfig.evaluate_every_steps = 12",
        "CheckpointConfig.every_steps = 4",
    )
    return str(file)


def train(gin_file, folder, *more, main=WELM, compiled=""):
    """A run as a process of its own, with a folder of programs, or else that of its run."""
    return Forked(
        main,
        ["train", "--gin_file", gin_file, "--run_dir", folder, *more],
        folder.parent / "out",
        folder.parent / "err",
        {"JAX_COMPILATION_CACHE_DIR": str(compiled)},
    )


def finished(process):
    status = process.wait(timeout=300)
    return status, process.output.read_text(), process.errors.read_text()


def programs_of(folder):
    [programs] = (folder / "compiled").iterdir()
    return programs


def losses(folder):
    """step -> loss; where a step was made twice, the last time counts."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def final_parameters(folder):
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        assert manager.latest_step() == STEPS
        restored = manager.restore(STEPS, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    flat = ocp.tree.to_flat_dict(restored["state"], sep="/")
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def kill_at(process, step, number):
    """Sends a signal once the run says that it has made a step."""
    while not re.search(rf"^step {step}/", process.output.read_text(), re.MULTILINE):
        assert process.poll() is None, f"ended before step {step}: {process.errors.read_text()}"
        time.sleep(0.01)
    process.send_signal(number)


@pytest.fixture(scope="module")
def undisturbed(gin_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    status, out, err = finished(train(gin_file, folder, main=WITHOUT_TENSORFLOW))
    assert status == 0, err
    return folder, out


def test_the_loss_falls_and_the_folder_holds_what_it_promises(undisturbed):
    folder, out = undisturbed
    curve = losses(folder)
    assert list(curve) == list(range(1, STEPS + 1))
    assert curve[STEPS] < curve[1] - 1  # from ln 480 = 6.2, on templates a child could learn
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.gin", "operative_config.gin", "mixture.json", "metrics.jsonl"}
    assert names >= {"tensorboard", "checkpoints", "tokenizer.model", "model_info.txt"}
    assert {"embed/embedding", "blocks/up/kernel"} <= set(
        (folder / "model_info.txt").read_text().split()
    )
    [life] = (folder / "goodput").iterdir()
    assert json.loads(life.read_text())["seconds"].keys() >= {
        "starting",
        "compiling",
        "steps",
        "save",
    }
    programs = [file.name for file in programs_of(folder).iterdir()]
    assert any(name.startswith("jit_train_step") for name in programs)
    assert "held-out bits per character" in out and "epochs: " in out
    named = "WITHOUT A RATE, and so not trained on: books; MixtureConfig.rates names english, news"
    assert out.index(named) < out.index("step 1/")


def test_killed_at_a_random_step_it_ends_bit_for_bit_the_same(undisturbed, gin_file, tmp_path):
    folder = tmp_path / "run"
    step = random.Random(time.time_ns()).randint(1, STEPS - 4)
    compiled = programs_of(undisturbed[0])
    process = train(gin_file, folder, compiled=compiled)
    kill_at(process, step, signal.SIGKILL)
    assert finished(process)[0] == -signal.SIGKILL
    saved = [
        int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit()
    ]
    status, out, err = finished(train(gin_file, folder, compiled=compiled))
    assert status == 0, err
    begun = f"going on from step {max(saved)} " if saved else "from the beginning"
    assert begun in out, f"killed at step {step}"
    assert losses(folder) == losses(undisturbed[0]), f"killed at step {step}"
    expected = final_parameters(undisturbed[0])
    for name, leaf in final_parameters(folder).items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=f"{name}, killed at {step}")


def test_sigterm_saves_and_says_start_me_again_and_eight_devices_go_on(
    undisturbed, gin_file, tmp_path
):
    folder = tmp_path / "run"
    process = train(gin_file, folder, compiled=programs_of(undisturbed[0]))
    kill_at(process, 6, signal.SIGTERM)
    status, _, err = finished(process)
    assert status == 75
    [step] = re.findall(r"stopped at step (\d+), saved; the same command goes on", err)
    assert (folder / "checkpoints" / step).is_dir()
    mesh = ["--gin.MeshConfig.data=2", "--gin.MeshConfig.fsdp=2", "--gin.MeshConfig.tensor=2"]
    status, out, err = finished(train(gin_file, folder, *mesh))
    assert status == 0, err
    assert f"going on from step {step}" in out and "8 x cpu (data 2, fsdp 2, tensor 2)" in out
    for step, loss in losses(undisturbed[0]).items():
        assert losses(folder)[step] == pytest.approx(loss, rel=1e-4)


def refused(gin_file, folder, *flags):
    """The text of the error, from the door itself; the loop above shows it as a process."""
    with pytest.raises(InputError) as error:
        launch.dispatch(["train", "--gin_file", gin_file, "--run_dir", str(folder), *flags])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("ModelConfig.num_layers=2", "holds a run with ModelConfig.num_layers = 1, not 2"),
        ("BATCH_SIZE=16", "holds a run with StepConfig.batch_size = 8, not 16"),
        ("MixtureConfig.seed=1", "holds a run with MixtureConfig.seed = 0, not 1"),
        ("MixtureConfig.rates={'news': 1.0}", "holds a run with MixtureConfig.rates"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_alone(undisturbed, gin_file, flag, words):
    folder = undisturbed[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert words in refused(gin_file, folder, f"--gin.{flag}")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_same_values_in_another_spelling_are_the_same_run(
    undisturbed, gin_file, tmp_path, capsys
):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    rates = "--gin.MixtureConfig.rates={'english': 0.3, 'news': 0.7}"
    launch.dispatch(["train", "--gin_file", gin_file, "--run_dir", str(folder), rates])
    assert f"step {STEPS} was made before, and" in capsys.readouterr().out
    launch.dispatch(["evaluate", "--run_dir", str(folder)])  # by the configuration written now
    launch.dispatch(["recover", "status", "--run_dir", str(folder)])
    assert capsys.readouterr().out.count("valid") == STEPS // 4


def test_a_checkpoint_that_is_refused_leaves_the_folder_as_it_was(undisturbed, gin_file, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    with rewritten_host(epath.Path(folder) / f"checkpoints/{STEPS}") as host:
        host["identity"]["tokenizer"] = "of another"
    files = [folder / name for name in ("config.gin", "operative_config.gin", "mixture.json")]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    flags = ["--run_dir", str(folder), "--gin.LoopConfig.log_every_steps=2"]
    with pytest.raises(StopAndLook, match="is of a run with tokenizer = of another"):
        launch.dispatch(["train", "--gin_file", gin_file, *flags])
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


class OutOfMemory(Exception):
    """Stands for what ends a run in its first compilation."""


def compile_in_vain(training):
    raise OutOfMemory


def test_a_run_that_died_before_its_first_step_may_become_another(gin_file, tmp_path, monkeypatch):
    tokens = shutil.copytree(tiny_corpus.tokens_dir(), tmp_path / "tokens")
    run = RunFolder(tmp_path / "run")
    monkeypatch.setattr(loop, "run", compile_in_vain)
    line = ["train", "--gin_file", gin_file, "--run_dir", str(run.path)]
    flags = ["--gin.ModelConfig.num_layers=2", "--gin.BATCH_SIZE=16", "--gin.MixtureConfig.seed=1"]
    flags += ["--gin.MixtureConfig.rates={'news': 1.0}", f"--gin.TOKENS_DIR={tokens}"]
    for more in ([], flags):
        with pytest.raises(OutOfMemory):
            launch.dispatch([*line, *more])
    parts = RunParts.opened(run)
    assert parts.config["ModelConfig"].num_layers == 2
    assert parts.config["StepConfig"].batch_size == 16
    [source] = parts.mixture["sources"]
    assert (parts.mixture["seed"], source["folder"]) == (1, str(tokens / "news"))
    run_files.append_lines(run.metrics, [{"step": 1, "loss": 6.2}])
    assert "holds a run with ModelConfig.num_layers = 2, not 1" in refused(gin_file, run.path)


def test_a_file_of_either_split_is_missed_before_the_first_step_and_not_looked_for_again(
    gin_file, tmp_path, monkeypatch
):
    tokens = shutil.copytree(tiny_corpus.tokens_dir(), tmp_path / "tokens")
    lost = tokens / "english/english-heldout.array_record-00001-of-00002"
    lost.rename(tmp_path / "lost")
    monkeypatch.setattr(loop, "run", compile_in_vain)
    run = tmp_path / "run"
    line = ["train", "--gin_file", gin_file, "--run_dir", str(run), f"--gin.TOKENS_DIR={tokens}"]
    with pytest.raises(StopAndLook, match="english-heldout.array_record-00001-of-00002 is missing"):
        launch.dispatch(line)
    assert not run.exists()
    (tmp_path / "lost").rename(lost)
    with pytest.raises(OutOfMemory):
        launch.dispatch(line)
    run_files.append_lines(RunFolder(run).metrics, [{"step": 1, "loss": 6.2}])
    lost.unlink()
    with pytest.raises(OutOfMemory):
        launch.dispatch(line)


def test_a_project_that_moved_is_evaluated_continued_and_recovered(tmp_path, monkeypatch, capsys):
    """To a name that looks like a pattern, and with TOKENS_DIR as it was given beside the run."""
    project = tmp_path / "project"
    shutil.copytree(tiny_corpus.tokens_dir(), project / "tokens")
    monkeypatch.chdir(project)
    begun_run(project, 4, "TOKENS_DIR = 'tokens'")
    moved = project.rename(tmp_path / "project [2]")
    monkeypatch.chdir(tmp_path)  # from where nothing is called tokens
    run = ["--run_dir", str(moved / "run")]
    launch.dispatch(["evaluate", *run])
    launch.dispatch(["generate", *run, "--prompt", "老师", "--tokens", "2"])
    launch.dispatch(["report", *run])
    launch.dispatch(["recover", "roll-back", *run, "--to", "4", "--skip", "3"])
    assert "recovery 1" in capsys.readouterr().out


def test_programs_of_another_jaxlib_or_processor_are_not_loaded(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    here = runs.programs_folder(run)
    assert here == runs.programs_folder(run) and here.parent == run.compiled
    with monkeypatch.context() as patch:
        patch.setattr(runs.jaxlib, "__version__", "0.0.1")
        assert runs.programs_folder(run) != here
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_processor", lambda: "another, without AVX-512")
        assert runs.programs_folder(run) != here


def test_a_recovery_gives_the_loss_scale_its_first_value_and_changes_nothing_else(gin_file):
    config = gin_files.load([gin_file], ["ModelConfig.compute_dtype=float16"], TRAINING)
    parts = RunParts(config=config, mixture={}, mesh=mesh_of())
    worn = LossScale(scale=jnp.float32(8), good_steps=jnp.int32(7), hysteresis_left=jnp.int32(1))
    step, weights = jnp.int32(5), {"up": jnp.ones(3)}
    adam = optax.ScaleByAdamState(count=step, mu=weights, nu=weights)
    state = TrainState(step=step, parameters=weights, adam=adam, loss_scale=worn)
    again = parts.with_first_loss_scale(state)
    assert vars(again) == vars(state) | {"loss_scale": again.loss_scale}
    found = {name: number.item() for name, number in vars(again.loss_scale).items()}
    assert found == {"scale": 65_536.0, "good_steps": 0, "hysteresis_left": 2}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gin.BATCH_SIZE=12"], "set StepConfig.batch_size to 8 or 16"),
        (["--gin.StepConfig.loss_chunks=5"], "use a divisor of 32"),
        (["--gin.ModelConfig.vocab_size=500"], "has 480 pieces; make them equal"),
        (["--gin.MeshConfig.tensor=3"], "does not fit 8 devices"),
        (["--gin.MeshConfig.tensor=4"], "does not divide ModelConfig.num_heads = 2"),
        (["--gin.MICROBATCHES=0"], "StepConfig.microbatches = 0; it must be 1 or more"),
        (["--gin.TOKENS_DIR=/nowhere"], "no token dataset in /nowhere"),
        (["--import", "no_such_module"], "--import no_such_module"),
        (["--gin.TRAIN_STEP=7"], "did you mean TRAIN_STEPS?"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_folder(gin_file, tmp_path, flags, words):
    assert words in refused(gin_file, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(gin_file, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds thesis.txt and is no run folder" in refused(gin_file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_tokenizer_that_is_not_the_datas_is_refused(undisturbed, gin_file, tmp_path):
    tokens = tmp_path / "tokens"
    shutil.copytree(tiny_corpus.tokens_dir(), tokens)
    with (tokens / "tokenizer.model").open("ab") as model:
        model.write(b"\x78\x01")  # a field that SentencePiece does not know, and so ignores
    run = tmp_path / "run"
    words = refused(gin_file, run, f"--gin.TOKENS_DIR={tokens}")
    assert "is not the tokenizer of the data" in words
    assert not run.exists()


def test_a_refusal_is_one_line_and_status_2(gin_file, tmp_path):
    status, out, err = finished(train(gin_file, tmp_path / "run", "--gin.BATCH_SIZE=12"))
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_run_folder_is_evaluated_continued_and_reported(undisturbed, capsys):
    run = str(undisturbed[0])
    launch.dispatch(["evaluate", "--run_dir", run])
    figures = json.loads((undisturbed[0] / "held_out.json").read_text())
    assert figures["step"] == STEPS and set(figures["sources"]) == {"news", "english"}
    capsys.readouterr()
    prompts = ["--prompt", "老师在", "--prompt", "The old"]
    launch.dispatch(["generate", "--run_dir", run, *prompts, "--tokens", "5"])
    greedy = capsys.readouterr().out
    assert re.fullmatch(r"老师在.*\n\nThe old.*\n\n", greedy, re.DOTALL)
    launch.dispatch(["generate", "--run_dir", run, *prompts, "--tokens", "5", "--beams", "1"])
    assert capsys.readouterr().out == greedy
    sample = json.loads((undisturbed[0] / "samples.jsonl").read_text().splitlines()[0])
    usual = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "seed": 0,
        "max_new_tokens": 5,
        "step": STEPS,
    }
    assert usual.items() <= sample.items()
    launch.dispatch(["report", "--run_dir", run])
    assert "老师在" in (undisturbed[0] / "report.html").read_text()
    with pytest.raises(InputError, match="is not a run folder"):
        launch.dispatch(["generate", "--run_dir", "/nowhere", "--prompt", "x"])
    with pytest.raises(InputError, match="--beams searches for the likeliest text"):
        launch.dispatch(["generate", "--run_dir", run, "--showcase", "--beams", "2"])
    with pytest.raises(InputError, match="without --temperature, --top_k, --top_p"):
        launch.dispatch(["generate", "--run_dir", run, *prompts, "--beams", "2", "--top_k", "5"])


def test_a_showcase_is_the_same_bytes_again_and_no_two_prompts_share_their_draws(
    undisturbed, tmp_path, capsys
):
    run, prompts = undisturbed[0], tmp_path / "prompts"
    prompts.mkdir()
    for name, most in (("one", 4), ("two", 6)):
        entry = "prompts: [{name: it, prompt: 老师在}]"
        text = f"figure: {name}\ntitle: T\nshows: S.\nmax_new_tokens: {most}\n{entry}\n"
        (prompts / f"{name}.yaml").write_text(text)
    line = ["generate", "--run_dir", str(run), "--showcase", str(prompts), "--seed", "5"]
    launch.dispatch(line)
    written = run / "showcase" / f"{STEPS}"
    assert f"{written}: showcase.html, showcase.md and showcase.jsonl" in capsys.readouterr().out
    first = {file.name: file.read_bytes() for file in written.iterdir()}
    assert first.keys() == {"showcase.jsonl", "showcase.md", "showcase.html"}
    launch.dispatch(line)
    assert {file.name: file.read_bytes() for file in written.iterdir()} == first
    one, two = map(json.loads, first["showcase.jsonl"].splitlines())
    expected = {"figure": "two", "name": "it", "prompt": "老师在", "step": STEPS, "seed": 5}
    expected |= {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 6}
    assert expected.items() <= two.items() and two["new_tokens"] <= 6
    assert one["new_tokens"] <= 4 and not two["continuation"].startswith(one["continuation"])
    launch.dispatch(["report", "--run_dir", str(run)])
    assert f"showcase/{STEPS}/showcase.html" in (run / "report.html").read_text()


# Reads the first words of standard output, then no more: of a pipe, or of the terminal of this
# process, to which the kernel then sends SIGHUP.
UNREAD = f"""
import fcntl, os, sys, termios, threading

reading, writing = os.openpty() if sys.argv.pop(1) == "terminal" else os.pipe()
if os.isatty(writing):
    fcntl.ioctl(writing, termios.TIOCSCTTY, 0)
os.dup2(writing, 1)
os.close(writing)

def read():
    os.read(reading, 1)
    os.close(reading)

threading.Thread(target=read, daemon=True).start()
{WELM}
"""


@pytest.mark.parametrize("output", ["pipe", "terminal"])
def test_output_that_goes_away_neither_ends_training_nor_costs_anything(
    undisturbed, gin_file, tmp_path, output
):
    folder = tmp_path / "run"
    process = Forked(
        UNREAD,
        [output, "train", "--gin_file", gin_file, "--run_dir", folder],
        tmp_path / "out",
        tmp_path / "err",
        {"JAX_COMPILATION_CACHE_DIR": str(undisturbed[0] / "compiled")},
    )
    status, out, err = finished(process)
    assert (status, out) == (0, "") and not re.search("welm: |Traceback", err)
    assert losses(folder) == losses(undisturbed[0])
    expected = final_parameters(undisturbed[0])
    for name, leaf in final_parameters(folder).items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


STUCK = f"""
import hashlib
from welm_jax.run_parts import RunParts

def compile_for_ever(*_):
    print("compiling", flush=True)
    {COMPUTE}

RunParts.train_step = property(lambda _: compile_for_ever)
{WELM}
"""


def test_sigterm_before_the_first_step_ends_training_at_once(gin_file, tmp_path):
    process = train(gin_file, tmp_path / "run", main=STUCK)
    assert ended_by(process, "compiling", signal.SIGTERM) == 75
    assert process.errors.read_text().endswith(
        "welm: error: ended by SIGTERM; start the same command again\n"
    )
