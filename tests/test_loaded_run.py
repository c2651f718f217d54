"""What `welm generate` may be asked for, and what it says of more."""

import json

import pytest

from tests.begun_run import begun_run
from welm_jax import launch, run_files
from welm_jax.failures import InputError


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    return begun_run(tmp_path_factory.mktemp("a_run"))


def generate(run, *flags):
    launch.dispatch(["generate", "--run_dir", str(run), "--prompt", "老师在", *flags])


def test_no_more_is_added_than_training_had_in_a_row(a_run, capsys):
    window = json.loads((a_run / "mixture.json").read_text())["sequence_tokens"]
    generate(a_run, "--tokens", "100000")
    said = capsys.readouterr().err
    assert f"adding at most {window} tokens, not 100000: training had no more in a row" in said
    assert f"tokens; the model was trained on {window} in a row, and what it writes beyond" in said
    [sample] = run_files.read_lines(a_run / "samples.jsonl")
    assert sample["new_tokens"] <= sample["max_new_tokens"] == window
    generate(a_run, "--tokens", "5")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", f"{2**63}"], "seed = 9223372036854775808; it must lie in"),
        (["--seed", "4294967296", "--temperature", "1"], "seed = 4294967296; it must lie in"),
        (["--seed", "-1"], "seed = -1; it must lie in"),
        (["--temperature", "1e39"], "temperature = 1e.39; it must be 0"),
        (["--temperature", "inf"], "temperature = inf; it must be 0"),
    ],
)
def test_numbers_beyond_their_range_are_refused_before_anything_is_opened(tmp_path, flags, words):
    (tmp_path / "config.gin").write_text("")
    with pytest.raises(InputError, match=words):
        generate(tmp_path, *flags)
