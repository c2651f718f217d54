"""What every test stands on: eight CPU devices, run-time shape checks, and the tolerances."""

import atexit
import os
import shutil
import signal
import tempfile
from importlib.metadata import version

# Little optimisation, and the emitters that give LLVM least to do: the same laws, compiled in half
# the time. Later versions of XLA have no such choice, and end at a flag that they
# do not know.
EMITTERS = "--xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):
    EMITTERS += " --xla_cpu_use_fusion_emitters=false"


def xla_flags(devices: int, level: int = 0) -> str:
    """What XLA_FLAGS holds for a process with some CPU devices that compiles quickly."""
    count = f"--xla_force_host_platform_device_count={devices}"
    return f"{count} --xla_backend_optimization_level={level} {EMITTERS}"


# Before jax is imported anywhere: a CPU with eight devices, so that meshes are real.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = xla_flags(8)

# A shell's background jobs ignore Control-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # a worker inherits it from pytest

import jax  # noqa: E402, F401  (so that what follows holds for processes that tests start, not for us)
from jaxtyping import install_import_hook  # noqa: E402

# Equal programs of those processes are compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="welm_compiled_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Array annotations (shape and dtype) are checked at every call a test makes.
CHECKED = ("text", "data", "model", "train", "decode", "evaluate")
install_import_hook([f"welm_jax.{floor}" for floor in CHECKED], "beartype.beartype")

# Tolerances, once. Integers are compared exactly.
FLOAT32_ATOL = 1e-5  # logits against another implementation, float32, one device
SHARDED_RTOL = 1e-5  # loss and gradients across meshes, relative to the largest entry
