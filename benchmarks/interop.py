"""An exported run beside itself in transformers and lm-eval, and a model of theirs read here.

    python -m benchmarks.interop --run_dir RUN --text_dir DIR --eval_dir DIR --python PYTHON

PYTHON is that of an environment with torch and transformers; with lm-eval too, or else --harness
names another that has it (none: its bars cannot be measured). Text is of DIR/*/data.jsonl.gz,
10,000 lines from all of them alike, and a hostile file made here; the task is 100 examples of
ocnli. Logits are compared in units of the largest: theirs, of this size, are that far from float64.
Prints what differs, then one JSON line for each bar; the exit status is 0 if all hold.
"""

import argparse
import gzip
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float

from benchmarks import bars
from welm_jax import launch, loaded_run
from welm_jax.decode.generate import generate
from welm_jax.evaluate import result_files
from welm_jax.loaded_run import LoadedRun
from welm_jax.model import loss
from welm_jax.run_files import RunFolder

LINES = 10_000
ROWS, ROW_TOKENS, NEW_TOKENS = 8, 64, 48
TASK, EXAMPLES = "ocnli_0shot", 100
PROMPTS = ["中国经济", "却说", "问题：今天天气怎么样？\n答案：", "The river"]
HOSTILE = [
    "\t\ta  b \u3000中\u2581文\u2581",
    "carriage return\r",
    "👨‍👩‍👧‍👦🏳️‍🌈 \u200b\u200d\ufeff\u0000\u202e",
    "𠮷𪚥\U0002a6df㐀龘靐",
    "e\u0301 é ﬁ Ｗｅｌｍ ½ ㍻",
    "</s><s><pad><unk><0x41><0xE4> <|endoftext|>",
    "......" * 9 + "！！！！！" * 9 + "     " * 9,
    "1998年12月31日 3.14159 ２０２２",
]


def lines_of(folder: Path) -> list[str]:
    """Lines of all sources in turn, and before them the hostile ones."""

    def of(file: Path) -> Iterator[str]:
        with gzip.open(file, "rt", encoding="utf-8") as records:
            for record in records:
                for line in json.loads(record)["text"].split("\n"):
                    if line:
                        yield line

    sources = [of(file) for file in sorted(folder.glob("*/data.jsonl.gz"))]
    in_turn = (line for lines in itertools.zip_longest(*sources) for line in lines if line)
    return [*HOSTILE, "\r\n".join(HOSTILE), *itertools.islice(in_turn, LINES)]


def logits(loaded: LoadedRun, rows: np.ndarray) -> Float[Array, "B T V"]:
    """What our decoder makes of rows of ids, float32."""
    loaded = loaded.in_float32()
    vocab_size = loaded.assemble.config.vocab_size

    @jax.jit
    def of(parameters, tokens):
        decoder = loaded.assemble(parameters)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden = decoder(tokens, positions)
        return loss.logits(hidden, decoder.head_matrix(), vocab_size)[:, :, :vocab_size]

    with jax.set_mesh(loaded.mesh), jax.default_matmul_precision("highest"):
        return np.asarray(of(loaded.parameters, jnp.asarray(rows)))


def continued(loaded: LoadedRun) -> list[str]:
    """Greedy continuations of PROMPTS."""
    loaded, tokenizer = loaded.in_float32(), loaded.tokenizer
    with jax.set_mesh(loaded.mesh):
        found = dict(
            generate(
                loaded.assemble,
                loaded.parameters,
                [[tokenizer.eod_id, *tokenizer.encode(prompt)] for prompt in PROMPTS],
                max_new_tokens=NEW_TOKENS,
                eod_id=tokenizer.eod_id,
            )
        )
    return [tokenizer.decode(found[number]) for number in range(len(PROMPTS))]


def outcomes_of(run: Path, eval_dir: str) -> list[dict]:
    """What `welm evaluate` makes of the task."""
    flags = ["--task", TASK, "--limit", str(EXAMPLES)]
    launch.dispatch(["evaluate", "--run_dir", str(run), "--data_dir", eval_dir, *flags])
    [step] = (run / "evaluation").iterdir()
    return result_files.outcomes(epath.Path(step), TASK)


def asked(python: str, job: dict) -> None:
    """Has another Python do a job of interop_peer."""
    command = [python, "-m", "benchmarks.interop_peer"]
    subprocess.run(command, input=json.dumps(job), text=True, check=True)


def main(folder: Path) -> int:
    """Measures everything; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("run_dir", "text_dir", "eval_dir", "python"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--harness", metavar="PYTHON")
    options = parser.parse_args()
    theirs, back, general = folder / "exported", folder / "back", folder / "general_run"
    launch.dispatch(["convert", "--run_dir", options.run_dir, "--to_hf", str(theirs)])
    launch.dispatch(["convert", "--from_hf", str(theirs), "--run_dir", str(back)])
    ours, again = (loaded_run.load(RunFolder(run)) for run in (options.run_dir, back))

    texts = lines_of(Path(options.text_dir))
    (folder / "lines.json").write_text(json.dumps(texts), encoding="utf-8")
    random = np.random.default_rng(0)
    rows = random.integers(4, ours.assemble.config.vocab_size, (ROWS, ROW_TOKENS))
    job = {"folder": str(theirs), "lines": str(folder / "lines.json"), "rows": rows.tolist()}
    job |= {"prompts": PROMPTS, "new_tokens": NEW_TOKENS, "task": None, "to": str(folder)}
    asked(options.python, job)
    answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    their_logits = np.load(folder / "answers.npz")
    launch.dispatch(["convert", "--from_hf", str(folder / "general"), "--run_dir", str(general)])
    general_vocabulary = their_logits["general"].shape[-1]
    of_general = logits(loaded_run.load(RunFolder(general)), rows % general_vocabulary)

    ids = [ours.tokenizer.encode(text) for text in texts]
    differ = [
        text for text, one, other in zip(texts, ids, answers["ids"], strict=True) if one != other
    ]
    for text in differ[:5]:
        print(f"other ids: {text[:60]!r}")
    same_text = sum(map(str.__eq__, continued(ours), answers["continued"]))
    harness = with_harness(folder, options, job) if options.harness else (None, None)
    of_export = logits(ours, rows)
    apart = np.abs(of_export - their_logits["exported"]).max()
    print(f"logits differ by {apart:.1e} of up to {np.abs(of_export).max():.1f}")
    return bars.ended(
        [
            ("lines with other ids in transformers", len(differ), "== 0"),
            ("texts that come back", int(answers["texts_back"]), "== 1"),
            (
                "logits of the export, difference by the largest",
                gap(of_export, their_logits["exported"]),
                "<= 1e-5",
            ),
            ("greedy texts that are the same", same_text, f"== {len(PROMPTS)}"),
            (
                "logits of it read again, difference by the largest",
                gap(of_export, logits(again, rows)),
                "== 0",
            ),
            (
                "logits of a general GPT-NeoX, difference by the largest",
                gap(of_general, their_logits["general"]),
                "<= 1e-5",
            ),
            ("accuracy in lm-eval less ours", harness[0], "== 0"),
            (
                "log-likelihoods in lm-eval, difference by the largest",
                harness[1],
                "<= 1e-5",
            ),
        ]
    )


def gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, by the largest number of the second."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def with_harness(folder: Path, options: argparse.Namespace, job: dict) -> tuple[float, float]:
    """lm-eval's accuracy less ours, and the largest difference of sums.

    It tokenises prompt and choice as one text; where a piece joins the two it scores other tokens,
    and such examples count for the first alone.
    """
    run = folder / "run"
    shutil.copytree(options.run_dir, run, ignore=shutil.ignore_patterns("evaluation", "compiled"))
    outcomes = outcomes_of(run, options.eval_dir)
    with (folder / "task.jsonl").open("w", encoding="utf-8") as file:
        for one in outcomes:
            asked_for = {name: one[name] for name in ("prompt", "choices", "gold")}
            file.write(json.dumps(asked_for, ensure_ascii=False) + "\n")
    (folder / "harness").mkdir()
    few = {"lines": str(folder / "few.json"), "rows": job["rows"][:1], "prompts": []}
    (folder / "few.json").write_text("[]", encoding="utf-8")
    asked(
        options.harness,
        job | few | {"task": str(folder / "task.jsonl"), "to": str(folder / "harness")},
    )
    found = json.loads((folder / "harness/answers.json").read_text(encoding="utf-8"))["harness"]
    ours = np.array([one["losses"]["sum"] for one in outcomes])
    theirs = -np.array(found["sums"])
    encode = loaded_run.load(RunFolder(run)).tokenizer.encode
    agrees = [
        all(
            encode(one["prompt"] + choice) == encode(one["prompt"]) + encode(choice)
            for choice in one["choices"]
        )
        for one in outcomes
    ]
    print(f"{sum(agrees)} of {len(outcomes)} examples have the same border in lm-eval")
    accuracy = np.mean([one["right"]["sum"] for one in outcomes])
    return found["accuracy"] - float(accuracy), gap(ours[agrees], theirs[agrees])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
