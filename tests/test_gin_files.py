"""Every way to get a configuration wrong ends in one line that says what to change."""

import subprocess
import sys
from pathlib import Path

import pytest

import gin_configs
from welm_jax import gin_files
from welm_jax.configurables import CORPUS, TRAINING
from welm_jax.failures import InputError
from welm_jax.model.config import ModelConfig
from welm_jax.text.sources import TABLE_1

GIN_CONFIGS = Path(gin_configs.__path__[0])
WANTED = {"ModelConfig": "welm_jax.model.config"}
GOOD = """
ModelConfig.num_layers = %LAYERS
ModelConfig.num_heads = 4
ModelConfig.d_model = 32
ModelConfig.vocab_size = 300
LAYERS = 2
"""


@pytest.fixture
def good(tmp_path):
    file = tmp_path / "good.gin"
    file.write_text(GOOD)
    return str(file)


def load(file, *bindings, **more):
    return gin_files.load([file], bindings, WANTED, **more)


def test_builds_the_plain_class_from_files_and_flags(good):
    built = load(good, "ModelConfig.d_model=64", "LAYERS=3")["ModelConfig"]
    assert type(built) is ModelConfig
    assert built == ModelConfig(num_layers=3, num_heads=4, d_model=64, vocab_size=300)


def test_bare_strings_after_a_flag_need_no_quotes(good):
    built = load(good, "ModelConfig.compute_dtype=float32")["ModelConfig"]
    assert built.compute_dtype == "float32"


def test_what_was_given_and_what_is_operative_both_load_to_the_same_objects(good, tmp_path):
    first = load(good, "LAYERS=5")
    for text in (first.given, first.operative):
        again = tmp_path / "again.gin"
        again.write_text(text)
        assert load(str(again))["ModelConfig"] == first["ModelConfig"]
    assert "compute_dtype" in first.operative and "compute_dtype" not in first.given


def test_includes_are_found_beside_the_file_and_among_the_installed_ones(tmp_path):
    (tmp_path / "beside.gin").write_text("ModelConfig.compute_dtype = 'float32'\n")
    outer = tmp_path / "outer.gin"
    outer.write_text("include 'beside.gin'\ninclude 'models/welm_1b3.gin'\n")
    built = load(str(outer))["ModelConfig"]
    assert (built.num_layers, built.d_model, built.compute_dtype) == (24, 2048, "float32")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("ModelConfig.num_layer=2", "did you mean ModelConfig.num_layers?"),
        ("ModelConfg.num_layers=2", "did you mean ModelConfig.num_layers?"),
        ("LAYRES=2", "did you mean LAYERS?"),
        ("ModelConfig.num_layers=2.5", "ModelConfig.num_layers = 2.5; it must be int"),
        ("ModelConfig.num_layers=ten", "'ten'; it must be int"),
        ("LAYERS=1e3", "ModelConfig.num_layers = 1000.0; it must be int"),
        ("ModelConfig.ties_embeddings=1", "it must be bool"),
        ("ModelConfig.compute_dtype=fp8", "it must be Literal['bfloat16', 'float16', 'float32']"),
        ("ModelConfig.compute_dtype=('bfloat16','float32')", "it must be Literal"),
        ("LAYERS=%gin.REQUIRED", "needs LAYERS, which is not set; add --gin.LAYERS=VALUE"),
        ("LAYERS=%DEPTH", "needs DEPTH, which is not set; add --gin.DEPTH=VALUE"),
        ("LAYERS=%LAYERS", "%LAYERS is defined by itself"),
        ("train/ModelConfig.num_layers=2", "scopes are not used here"),
        ("ModelConfig.num_layers=@os.system()", "@os.system: references"),
        ("ModelConfig.d_model=30", "make it a multiple of 2 x num_heads"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(good, flag, words):
    with pytest.raises(InputError) as error:
        load(good, flag)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\n", "a gin file cannot import; use --import"),
        ("include 'nowhere.gin'\n", "gin file nowhere.gin is neither here nor"),
        ("include 'models/welm_1b.gin'\n", "did you mean models/welm_1b3.gin?"),
        (
            "ModelConfig.num_layers = two\n",
            "wrong.gin:1: 'ModelConfig.num_layers = two' is not gin",
        ),
        ("ModelConfig.num_layers = 2\n", "ModelConfig.num_heads is not set"),
        ("N = {[]: 1}\n", "is not gin"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, words):
    file = tmp_path / "wrong.gin"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        load(str(file))
    assert words in str(error.value)


def test_an_installed_file_includes_no_file_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/welm_1b3.gin").write_text(GOOD)
    installed = GIN_CONFIGS / "models/welm_1b3.gin"
    (tmp_path / "mine.gin").write_text("include 'runs/welm_1b3.gin'\nTOKENS_DIR = '/tokens'\n")
    config = gin_files.load(["mine.gin"], [], TRAINING)
    assert config["ModelConfig"].num_layers == 24
    assert config.files[0] == "mine.gin" and str(installed) in config.files
    assert load("models/welm_1b3.gin").files == ["models/welm_1b3.gin"]  # a flag may mean ours


def test_the_files_are_those_that_were_read_each_once(good, tmp_path):
    for name in ("outer.gin", "inner.gin"):
        (tmp_path / name).write_text(f"include '{good}'\n")
    outer, inner = (str(tmp_path / name) for name in ("outer.gin", "inner.gin"))
    assert gin_files.load([outer, inner], [], WANTED).files == [outer, good, inner]


def test_a_byte_order_mark_is_not_part_of_a_file(good, tmp_path):
    marked = tmp_path / "marked.gin"
    marked.write_text(f"\ufeffinclude '{good}'\nLAYERS = 3\n")
    again = tmp_path / "again.gin"
    again.write_text("\ufeffLAYERS = 4\n")
    config = gin_files.load([str(marked), str(again)], [], WANTED)
    assert config["ModelConfig"].num_layers == 4 and "\ufeff" not in config.given


def test_a_file_that_includes_itself_is_refused(tmp_path):
    file = tmp_path / "again.gin"
    file.write_text("include 'again.gin'\n")
    with pytest.raises(InputError, match="includes itself"):
        load(str(file))


def test_files_may_bind_for_a_sibling_command_but_flags_may_not(tmp_path, good):
    siblings = {"MeshConfig": "welm_jax.train.mesh"}
    shared = tmp_path / "shared.gin"
    shared.write_text(GOOD + "MeshConfig.data = 2\n")
    assert load(str(shared), siblings=siblings)["ModelConfig"].num_layers == 2
    with pytest.raises(InputError, match="no MeshConfig here"):
        load(str(shared))
    with pytest.raises(InputError, match="not used by this command"):
        load(good, "MeshConfig.data=2", siblings=siblings)


def test_a_bad_binding_is_refused_before_anything_heavy_is_imported():
    code = (
        "import sys\n"
        "from welm_jax import gin_files\n"
        "from welm_jax.configurables import TRAINING\n"
        "from welm_jax.failures import InputError\n"
        "try:\n"
        "    gin_files.load(['runs/quickstart.gin'], ['StepConfig.batch_sise=4'], TRAINING)\n"
        "except InputError as error:\n"
        "    print(error, *sorted({'jax', 'flax', 'seqio', 'tensorflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "the command line: StepConfig.batch_sise: StepConfig has no batch_sise; "
        "did you mean StepConfig.batch_size?\n"
    )


def test_a_flag_may_bind_a_field_over_the_macro_that_the_file_gives_it(good):
    assert load(good, "ModelConfig.num_layers=7", "LAYERS=3")["ModelConfig"].num_layers == 7


def test_a_path_with_signs_of_gin_in_it_is_a_plain_string(tmp_path):
    file = tmp_path / "mixture.gin"
    file.write_text("MixtureConfig.seed = 3\n")
    wanted = {"MixtureConfig": "welm_jax.text.sources"}
    flags = ["MixtureConfig.tokens_dir=/data/a@b%c"]
    assert gin_files.load([str(file)], flags, wanted)["MixtureConfig"].tokens_dir == "/data/a@b%c"


def test_a_file_that_is_no_text_and_a_flag_of_two_lines_are_refused(tmp_path, good):
    file = tmp_path / "latin.gin"
    file.write_bytes(b"N = '\xe9'\n")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        load(str(file))
    with pytest.raises(InputError, match="a value is one line"):
        load(good, "LAYERS=3\nModelConfig.d_model = 64")


def test_split_arguments_takes_what_is_gin_and_keeps_the_order_of_the_rest():
    line = ["--gin_file", "a", "--x", "--gin.N=1", "--gin_file=b", "y", "--gin.C.f=%N"]
    assert gin_files.split_arguments(line) == (["a", "b"], ["N=1", "C.f=%N"], ["--x", "y"])
    with pytest.raises(InputError, match="--gin_file needs a path"):
        gin_files.split_arguments(["--gin_file"])
    with pytest.raises(InputError, match="--gin.N needs a value"):
        gin_files.split_arguments(["--gin.N"])


@pytest.mark.parametrize(
    "file",
    [
        path.relative_to(GIN_CONFIGS).as_posix()
        for path in sorted(GIN_CONFIGS.glob("corpus/**/*.gin"))
        if "TokenizerConfig" in path.read_text() or "include" in path.read_text()
    ],
)
def test_every_corpus_file_configures_its_commands(file):
    wanted = {name: CORPUS[name] for name in ("CurationConfig", "FilterConfig")}
    bindings = ["CLASSIFIER="] if "ablation" in file else []
    built = gin_files.load([file], bindings, wanted, CORPUS)
    assert set(built["FilterConfig"].languages) >= {"zh", "en"}
    for name in ("TokenizerConfig", "WriteTokensConfig"):
        gin_files.load([file], [], {name: CORPUS[name]}, CORPUS)


def test_the_papers_corpus_uses_the_papers_tools():
    wanted = {name: CORPUS[name] for name in ("CurationConfig", "FilterConfig", "DataCardConfig")}
    built = gin_files.load(["corpus/welm_paper.gin"], [], wanted, CORPUS)
    assert built["FilterConfig"].language_detector == "langdetect"
    assert built["CurationConfig"].near_duplicates == "simhash"
    ours = gin_files.load(["corpus/welm.gin"], [], wanted, CORPUS)
    assert ours["FilterConfig"].rules.keys() == TABLE_1.keys()
    rates = ours["DataCardConfig"].rates
    assert rates["common_crawl_en"] == 0.13 and sum(rates.values()) == pytest.approx(1)
    for source, row in TABLE_1.items():  # Table 1's proportions, of the 87 % that is Chinese
        assert rates[source] == pytest.approx(0.87 * row.proportion, abs=0.001)


CORPORA = {
    "corpus/quickstart.gin": ("quickstart", "drill"),
    "corpus/welm.gin": ("welm_1b3", "welm_2b7", "welm_10b", "welm_10b_paper"),
    "corpus/welm_paper.gin": ("welm_10b_paper",),
}
CARD = {"DataCardConfig": CORPUS["DataCardConfig"]}


def test_every_run_is_fed_as_the_data_card_of_its_corpus_says():
    runs = {file.stem for file in (Path(gin_configs.__file__).parent / "runs").glob("*.gin")}
    assert {run for of_corpus in CORPORA.values() for run in of_corpus} == runs - {"pretrain"}
    for corpus, of_corpus in CORPORA.items():
        card = gin_files.load([corpus], [], CARD, CORPUS)["DataCardConfig"]
        for name in of_corpus:
            run = gin_files.load([f"runs/{name}.gin"], ["TOKENS_DIR=unused"], TRAINING)
            assert run["MixtureConfig"].rates == card.rates, (corpus, name)


def test_the_papers_run_is_in_float16_over_tensor_axes_of_four():
    run = gin_files.load(["runs/welm_10b_paper.gin"], ["TOKENS_DIR=unused"], TRAINING)
    assert run["ModelConfig"].compute_dtype == "float16" and run["MeshConfig"].tensor == 4


def test_the_quickstarts_data_card_plans_the_tokens_of_its_run():
    card = gin_files.load(["corpus/quickstart.gin"], [], CARD, CORPUS)["DataCardConfig"]
    run = gin_files.load(["runs/quickstart.gin"], [], TRAINING)
    tokens = run["LoopConfig"].train_steps * run["StepConfig"].batch_size * 128
    assert card.planned_tokens == tokens
