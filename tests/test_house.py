"""The walls of docs/architecture.md, seen from outside: what each floor loads, and plain habits."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from welm_jax import configurables, gin_files

ROOT = Path(__file__).parents[1]
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "seqio", "tensorflow", "apache_beam", "gin"}

TRAINING = {"jax", "flax", "optax", "orbax"}

# Modules of each floor, and what heavy packages a fresh process may hold after importing them.
# grain brings jax and orbax along where they are installed.
FLOORS = {
    "door": (["welm_jax.launch"], {"gin"}),
    "beside text": (
        [f"welm_jax.{name}" for name in ("run_files", "failures", "configurables", "corpus_card")]
        + ["welm_jax.pages", "welm_jax.plots", "welm_jax.subcommands"],
        set(),
    ),
    "text": (["welm_jax.text.tokenizer", "welm_jax.text.records", "welm_jax.text.sources"], set()),
    "model": (["welm_jax.model.decoder", "welm_jax.model.loss"], TRAINING),
    "data": (["welm_jax.data.batches", "welm_jax.data.token_dataset"], {"jax", "grain", "orbax"}),
    "train": (["welm_jax.train.loop", "welm_jax.train.step"], TRAINING),
    "decode": (["welm_jax.decode.generate"], TRAINING),
    "rows of the tables": (
        [f"welm_jax.tasks.{name}" for name in ("chinese", "cross_lingual", "judgement", "scores")]
        + ["welm_jax.evaluate.result_files"],
        set(),
    ),
    "tasks": (
        ["welm_jax.tasks.pretraining", "welm_jax.tasks.eval_tasks"],
        HEAVY - {"apache_beam", "gin"},
    ),
    "showcase": (["welm_jax.evaluate.showcase"], set()),
    "evaluate": (["welm_jax.evaluate.held_out"], TRAINING | {"grain"}),
    "runs": (["welm_jax.runs", "welm_jax.report"], HEAVY - {"seqio", "tensorflow", "apache_beam"}),
    "pipelines": (["beam_pipelines.curate", "beam_pipelines.write_tokens"], {"gin", "apache_beam"}),
}  # fmt: skip


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_alone_without_what_it_must_not_load(floor):
    modules, allowed = FLOORS[floor]
    code = f"import sys, {', '.join(modules)}; print(*{sorted(HEAVY)!r} & sys.modules.keys())"
    code = code.replace(repr(sorted(HEAVY)), repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed


def test_a_wheel_holds_the_pipelines_the_gin_files_and_the_template(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "quickstart_run", "tests"))
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = [*modules(), *ROOT.glob("gin_configs/**/*.gin"), *ROOT.glob("welm_jax/*.j2")]
    expected += ROOT.glob("welm_jax/**/*.yaml")
    assert {str(file.relative_to(ROOT)) for file in expected} <= names


def test_welm_help_is_instant_because_it_loads_nothing():
    code = (
        "import sys; from welm_jax import launch; launch.dispatch(['--help']); "
        f"print('loaded:', *{HEAVY - {'gin'}!r} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded:\n")
    assert "quickstart" in done.stdout


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [("--help", 0, "usage: welm VERB"), ("trian", 2, "trian is no verb")],
)
def test_the_module_of_the_command_is_the_command(verb, status, words):
    line = [sys.executable, "-m", "welm_jax.launch", verb]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == status and words in done.stdout + done.stderr


def test_welm_jax_never_imports_beam_pipelines():
    offenders = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "welm_jax").rglob("*.py")
        if re.search(r"^\s*(from|import) beam_pipelines", file.read_text(), re.MULTILINE)
    ]
    assert offenders == []


def test_every_text_file_is_opened_with_a_named_encoding():
    """Where ruff's PLW1514, which knows a path by its class alone, sees none."""
    places = [
        *modules(),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "requirements").glob("*.py"),
    ]
    assert [
        f"{file.name}:{call.lineno}"
        for file in places
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("read_text", "write_text")
        if ast.unparse(call.func.value) != "run_files"  # ours, and always UTF-8
        if "encoding" not in {keyword.arg for keyword in call.keywords}
    ] == []


def test_only_the_doors_know_gin():
    knowing = {
        file.stem
        for folder in ("welm_jax", "beam_pipelines")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(from|import) gin\b", file.read_text(), re.MULTILINE)
    }
    assert knowing == {"gin_files"}


def modules():
    return [
        file
        for folder in ("welm_jax", "beam_pipelines")
        for file in (ROOT / folder).rglob("*.py")
        if file.name != "__init__.py"
    ]


def test_module_names_are_unique_and_say_something():
    names = [file.stem for file in modules()]
    assert len(names) == len(set(names))
    assert not {"utils", "helpers", "common", "misc", "base", "core"} & set(names)


def test_packages_load_nothing_of_themselves():
    inits = [*ROOT.glob("welm_jax/**/__init__.py"), *ROOT.glob("beam_pipelines/__init__.py")]
    assert len(inits) > 5 and all(file.read_text() == "" for file in inits)


@pytest.mark.parametrize("name", ["quickstart", "drill", "welm_1b3", "welm_2b7", "welm_10b"])
def test_every_run_file_loads(name):
    given = [] if name in ("quickstart", "drill") else ["TOKENS_DIR=/tokens"]
    config = gin_files.load([f"runs/{name}.gin"], given, configurables.TRAINING)
    assert config["LoopConfig"].train_steps == config["OptimizerConfig"].decay_steps


@pytest.mark.parametrize("name", configurables.CORPUS)
def test_the_corpus_file_serves_each_of_its_commands(name):
    wanted = {name: configurables.CORPUS[name]}
    loaded = gin_files.load(["corpus/quickstart.gin"], [], wanted, configurables.CORPUS)
    assert set(loaded.objects) == {name}


def test_every_file_of_the_map_exists_and_every_file_is_on_it():
    told = set(
        re.findall(
            r"`((?:welm_jax|beam_pipelines)/[\w/]+\.py)`",
            (ROOT / "docs/architecture.md").read_text(),
        )
    )
    assert told == {str(file.relative_to(ROOT)) for file in modules()}  # fmt: skip


def test_the_readme_says_one_line_to_start_and_one_line_to_test():
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    start, test = blocks[0], blocks[1]
    assert start.count("\n") == 1 and start.rstrip().endswith("welm quickstart")
    assert test.count("\n") == 1 and test.rstrip().endswith("pytest")
    for line in (start, test):
        assert line.startswith("sh requirements/install.sh && .venv/bin/")
