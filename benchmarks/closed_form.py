"""The planner's closed form of memory beside the compiled step, at points it was fitted to or not.

    python -m benchmarks.closed_form

Needs no GPU; requirements/plan.txt brings the compiler, in an environment of its own. Each point is
the real train step, compiled for GPUs that are not here (ten minutes in all on two cores). Writes
tests/golden/compiled_steps.json, which tests hold the closed form to, prints how far the form is
from each, then one JSON line for each bar; the exit status is 0 if all hold.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax: no GPU is looked for

from benchmarks import bars
from welm_jax import ahead_of_time, plan
from welm_jax.cost_model import Candidate
from welm_jax.model.config import ModelConfig
from welm_jax.plan import GIB, Question

FILE = Path(__file__).parent.parent / "tests" / "golden" / "compiled_steps.json"
LARGE = {"num_layers": 24, "num_heads": 16, "d_model": 2048}
MODELS = {
    "small": {"num_layers": 12, "num_heads": 12, "d_model": 768},
    "1.3B": LARGE,
    "1.3B float32": {**LARGE, "compute_dtype": "float32"},
    "1.3B untied": {**LARGE, "ties_embeddings": False},
    "2.7B": {"num_layers": 32, "num_heads": 32, "d_model": 2560},
    "10B": {"num_layers": 32, "num_heads": 40, "d_model": 5120},
}
# Model, device, T, mesh (data, fsdp, tensor), rows, microbatches, remat.
FITTED = [
    ("1.3B", "h100", 2048, (1, 1, 1), 8, 4, "dots"),
    ("1.3B", "h100", 2048, (1, 1, 1), 8, 1, "dots"),
    ("1.3B", "h100", 2048, (1, 1, 1), 16, 4, "full"),
    ("1.3B", "h100", 2048, (1, 1, 1), 4, 4, "none"),
    ("1.3B", "h100", 2048, (1, 1, 1), 16, 4, "dots"),
    ("1.3B", "h100", 2048, (8, 1, 1), 8, 4, "dots"),
    ("1.3B", "h100", 2048, (1, 8, 1), 8, 4, "dots"),
    ("2.7B", "h100", 2048, (1, 1, 1), 4, 4, "dots"),
    ("10B", "a100-40gb", 2048, (32, 1, 4), 4, 16, "dots"),
    ("10B", "a100-40gb", 2048, (4, 8, 4), 4, 16, "full"),
    ("10B", "a100-40gb", 2048, (16, 1, 8), 4, 32, "full"),
]
HELD_OUT = [
    ("small", "a100-40gb", 1024, (8, 1, 1), 16, 2, "dots"),
    ("1.3B float32", "a100-40gb", 2048, (1, 1, 1), 2, 4, "full"),
    ("1.3B float32", "h200", 2048, (1, 1, 1), 4, 4, "dots"),
    ("1.3B untied", "h100", 2048, (4, 1, 2), 8, 2, "dots"),
    ("1.3B", "h100", 8192, (1, 1, 1), 1, 4, "dots"),
    ("1.3B", "h100", 2048, (24, 1, 1), 8, 2, "dots"),
    ("2.7B", "a100-80gb", 2048, (2, 4, 2), 8, 2, "none"),
    ("10B", "h100", 2048, (4, 1, 8), 4, 4, "none"),
    ("10B", "b200", 2048, (8, 8, 1), 8, 2, "dots"),
]


def question(model: str, target: str, tokens: int, how: Candidate) -> Question:
    """What the planner would be asked to meet this point."""
    return Question(
        model=ModelConfig(**MODELS[model]),
        target=target,
        devices=how.devices,
        batch_size=how.rows * how.microbatches * how.data * how.fsdp,
        sequence_tokens=tokens,
        tokens=3e11,
    )


def main() -> int:
    """Compiles, writes, prints, judges."""
    rows, worst = [], {True: 0.0, False: 0.0}
    for point in (*FITTED, *HELD_OUT):
        model, target, tokens, (data, fsdp, tensor), of_device, microbatches, remat = point
        how = Candidate(
            data=data,
            fsdp=fsdp,
            tensor=tensor,
            rows=of_device,
            microbatches=microbatches,
            remat=remat,
        )
        asked = question(model, target, tokens, how)
        gib = ahead_of_time.live_bytes(plan.lowered(asked, how)[0].compile()) / GIB
        said = asked.bytes_of(how) / GIB
        fitted = point in FITTED
        worst[fitted] = max(worst[fitted], abs(said / gib - 1))
        rows.append(
            {
                "model": MODELS[model],
                "target": target,
                "sequence_tokens": tokens,
                "how": asdict(how),
                "fitted": fitted,
                "gib": round(gib, 3),
            }
        )
        print(f"{'fitted' if fitted else 'held out':8} {said / gib:.3f} of {gib:.2f} GiB: {point}")
        sys.stdout.flush()
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    return bars.ended(
        [
            ("worst_error_at_points_fitted_to", worst[True], "<= 0.06"),
            ("worst_error_at_points_held_out", worst[False], "<= 0.20"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
