"""What `welm generate` may be asked for, and what it says of more."""

import types

import pytest

from tests.tiny_decoder import mesh_of
from welm_jax import launch, loaded_run, run_files
from welm_jax.decode.sampling import Sampling
from welm_jax.failures import InputError
from welm_jax.run_files import RunFolder


def generate(run, *flags):
    launch.dispatch(["generate", "--run_dir", str(run), "--prompt", "老师在", *flags])


@pytest.mark.parametrize(
    ("tokens", "added", "total"), [(100_000, 16, 20), (13, 13, 17), (12, 12, 0)]
)
def test_no_more_is_added_than_training_had_in_a_row(
    tmp_path, monkeypatch, capsys, tokens, added, total
):
    """A prompt of four ids and rows of 16: what was cut, and what goes beyond, is announced."""
    loaded = types.SimpleNamespace(
        mixture={"sequence_tokens": 16},
        tokenizer=types.SimpleNamespace(eod_id=1, encode=lambda text: [5] * len(text), decode=str),
        mesh=mesh_of(),
        progress=types.SimpleNamespace(step=7),
        assemble=None,
        parameters=None,
    )
    monkeypatch.setattr(loaded_run, "load", lambda run: loaded)
    monkeypatch.setattr(
        loaded_run, "continue_prompts", lambda **asked: [(0, [5] * asked["max_new_tokens"])]
    )
    run = RunFolder(tmp_path)
    loaded_run.generate(run, ["老师在"], tokens, Sampling(), 0)
    said = capsys.readouterr().err
    assert ("adding at most 16 tokens, not 100000: training had no more" in said) == (tokens > 16)
    assert (f"may come to {total} tokens; the model was trained on 16 in a row" in said) == bool(
        total
    )
    [sample] = run_files.read_lines(run.samples)
    assert sample["new_tokens"] == sample["max_new_tokens"] == added


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
