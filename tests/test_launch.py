"""What the environment and the shell may give to `welm`: with real processes where jax reads it."""

import os
import subprocess
import sys

import pytest

from tests.forked import Forked
from welm_jax import launch
from welm_jax.failures import InputError
from welm_jax.flags import GENERATE_FLAGS, RUN_DIR

# A verb that shows how jax computes, through the command's own door.
PROBE = """
from welm_jax import launch

def probe(_):
    import jax
    jax.jit(lambda x: print("a tracer" if isinstance(x, jax.core.Tracer) else "a value"))(1.0)
    print(jax.numpy.arange(3.0).dtype, (jax.numpy.int8(1) + jax.numpy.float32(1)).dtype)

launch.VERBS["probe"] = probe
launch.main()
"""


def test_settings_of_jax_that_change_numbers_are_not_used_and_named():
    given = {"JAX_ENABLE_X64": "1", "JAX_DISABLE_JIT": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    line = [sys.executable, "-c", PROBE, "probe"]
    done = subprocess.run(line, env=os.environ | given, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a tracer\nfloat32 float32\n")
    said = [line for line in done.stderr.splitlines() if line.startswith("welm: ")]
    assert said == [
        f"welm: {name}={given[name]} of the environment is not used" for name in sorted(given)
    ]


@pytest.mark.parametrize("platform", ["cuda", "none_such"])
def test_devices_that_are_not_there_are_a_line(tmp_path, platform):
    code = """
from welm_jax.failures import run_door
from welm_jax.train.mesh import MeshConfig, make_mesh
raise SystemExit(run_door(lambda _: make_mesh(MeshConfig()), [], "welm"))
"""
    process = Forked(code, [], tmp_path / "log", environment={"JAX_PLATFORMS": platform})
    assert process.wait(timeout=60) == 2
    [line] = [line for line in process.output.read_text().splitlines() if line.startswith("welm: ")]
    assert line.startswith(f"welm: error: jax opens no device of JAX_PLATFORMS={platform}")
    assert line.endswith("; unset it to use what is here, or install jax for that device")


@pytest.mark.parametrize("verb", [[], ["generate"]], ids=["welm", "generate"])
def test_help_needs_no_docstrings(verb):
    line = [sys.executable, "-OO", "-m", "welm_jax.launch", *verb, "--help"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert launch.VERBS[(verb or ["train"])[0]].__doc__.splitlines()[0] in done.stdout


def test_a_prompt_may_begin_with_dashes():
    def prompts(*flags):
        flags = ["--run_dir", "run", *flags]
        return launch._options(launch.generate, flags, RUN_DIR, *GENERATE_FLAGS).prompt

    assert prompts("--prompt=--foo", "--prompt=-1", "--prompt", "- 一") == ["--foo", "-1", "- 一"]
    with pytest.raises(InputError) as error:
        prompts("--prompt", "--foo")
    assert str(error.value) == (
        "argument --prompt: expected one argument (one that begins with - is written --NAME=VALUE)"
        "; welm generate --help tells more"
    )
