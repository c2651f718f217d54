"""A trained run, opened: scoring and continuing text with its newest checkpoint.

Only reads what training wrote, so that a run may be looked at while it trains.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from jaxtyping import PyTree
from rich.console import Console
from rich.progress import track

from welm_jax import pages, run_evaluation, run_files
from welm_jax.decode import beam_search
from welm_jax.decode.beam_search import BeamSearch
from welm_jax.decode.generate import generate as continue_prompts
from welm_jax.decode.sampling import Sampling
from welm_jax.evaluate import count_models, held_out, showcase
from welm_jax.evaluate.model_functions import Model, programs_in_words
from welm_jax.failures import InputError
from welm_jax.model.decoder import Assembler
from welm_jax.run_evaluation import EvaluationConfig
from welm_jax.run_files import RunFolder
from welm_jax.run_parts import RunParts, own_tokenizer
from welm_jax.text.fast_tokenizer import AnyTokenizer
from welm_jax.train import lineage
from welm_jax.train.checkpoints import Progress
from welm_jax.train.recovery import Journal


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A run's newest checkpoint, ready to be used.

    Attributes:
      mixture: the content of its mixture.json.
      tokenizer: the tokenizer it was trained with.
      assemble: puts parameters into a decoder.
      parameters: the newest ones, on `mesh`.
      progress: where the run stood.
      mesh: the run's own, or of the first device; to be set around any use.
      masks_documents: see StepConfig.
    """

    mixture: Mapping[str, Any]
    tokenizer: AnyTokenizer
    assemble: Assembler
    parameters: PyTree
    progress: Progress
    mesh: jax.sharding.Mesh
    masks_documents: bool

    def in_float32(self) -> "LoadedRun":
        """The same computed in float32, whatever it was trained in.

        Ties and near ties are otherwise decided by rounding, which differs between batches.
        """
        config = dataclasses.replace(self.assemble.config, compute_dtype="float32")
        return dataclasses.replace(self, assemble=Assembler(config))


def load(run: RunFolder) -> LoadedRun:
    """Opens a run for evaluation or generation, on its own mesh.

    Where the devices of that are not there, it takes the first device alone. The run may be
    training meanwhile: nothing is written.

    Raises:
      InputError: there is no checkpoint, or the tokenizer is not the one of the data.
    """
    try:
        parts = RunParts.opened(run)
    except InputError:  # so many devices are not here
        parts = RunParts.opened(run, on_first_device=True)
    tokenizer = own_tokenizer(run.own_tokenizer(), parts.mixture)
    is_valid = functools.partial(lineage.is_valid, journal=Journal(run.journal).records())
    restored = None
    if run.checkpoints.exists():
        with jax.set_mesh(parts.mesh), parts.checkpoints_of(run) as checkpoints:
            restored = checkpoints.restore(parts.like, is_valid)
    if restored is None:
        raise InputError(f"{run.path} has no checkpoint that can be used; `welm train` makes one")
    return LoadedRun(
        mixture=parts.mixture,
        tokenizer=tokenizer,
        assemble=parts.assemble,
        parameters=restored[0].parameters,
        progress=restored[1],
        mesh=parts.mesh,
        masks_documents=parts.config["StepConfig"].masks_documents,
    )


def evaluate(run: RunFolder) -> None:
    """Scores the newest checkpoint and the count models of its training text on held-out text.

    Writes held_out.json and prints it as a table. Its keys: `step`; `sources` and `all`, with the
    fields of HeldOutScore but the name; `count_models`, as count_models.bits_per_character says.
    """
    loaded = load(run)
    if not loaded.mixture["sources"]:
        raise InputError(
            f"{run.path} was read from elsewhere and has no text of its own; evaluate it on tasks, "
            "with --data_dir"
        )
    with jax.set_mesh(loaded.mesh):
        scores = held_out.bits_per_character(
            loaded.assemble, loaded.parameters, loaded.mixture, loaded.masks_documents
        )
    named = {fields.pop("source"): fields for fields in map(dataclasses.asdict, scores)}
    overall = named.pop(held_out.ALL)
    folders = {
        source["name"]: source["folder"]
        for source in loaded.mixture["sources"]
        if source["name"] in named
    }
    result = {
        "step": loaded.progress.step,
        "all": overall,
        "sources": named,
        "count_models": count_models.bits_per_character(folders, loaded.tokenizer),
    }
    run_files.write_json(run.held_out, result)
    Console().print(held_out.table(result))


def evaluate_tasks(
    run: RunFolder,
    data_dir: epath.Path,
    names: Sequence[str],
    limit: int | None,
    window: int,
    user_modules: Sequence[str],
) -> None:
    """Evaluates the newest checkpoint on tasks; writes and prints the paper's tables with ours.

    Killed at any moment, the same command goes on: what the model gave is kept as it comes.

    Args:
      run: the folder; results go to evaluation/<step>/.
      data_dir: holds a folder for each evaluation set.
      names: of tasks or mixtures.
      limit: examples of each task; all unless given.
      window: tokens that a prompt and its answer may take together.
      user_modules: modules that register seqio Tasks.

    Raises:
      InputError: a task is not known, or none could be evaluated.
    """
    loaded = load(run).in_float32()
    model = Model(assemble=loaded.assemble, parameters=loaded.parameters, mesh=loaded.mesh)
    config = EvaluationConfig(data_dir=str(data_dir), tasks=tuple(names), limit=limit)
    _, tables = run_evaluation.evaluated(
        run, model, loaded.progress, config, window, Console(), user_modules
    )
    print(programs_in_words(loaded.mesh, window))
    print(tables)
    page = run.evaluation / f"{loaded.progress.step}/tables.html"
    print(f"{page} shows each question, answer and score")


def generate(
    run: RunFolder, prompts: Sequence[str], tokens: int, how: Sampling | BeamSearch, seed: int
) -> None:
    """Continues texts with the newest checkpoint; prints them and keeps them in samples.jsonl."""
    loaded = load(run)
    tokens = _bounded(loaded, tokens)
    with jax.set_mesh(loaded.mesh):
        made = dict(_continued(loaded, prompts, tokens, how, seed))
    records = [
        _record(loaded, prompt, made[number], tokens, how, seed)
        for number, prompt in enumerate(prompts)
    ]
    for record in records:
        print(pages.visible(record["prompt"] + record["continuation"]) + "\n")
    run_files.append_lines(run.samples, records)


def generate_showcase(
    run: RunFolder, folder: epath.Path, tokens: int | None, how: Sampling, seed: int
) -> None:
    """Continues the prompts of figures with the newest checkpoint, and makes pages of them.

    An earlier showcase of the same step is replaced.

    Args:
      run: the folder; showcase.jsonl, .md and .html go to showcase/<step>/.
      folder: of YAML files, as showcase.read takes them.
      tokens: most to add to a prompt; as the files say unless given.
      how: an id is chosen.
      seed: of the sampling.

    Raises:
      InputError: the files are not as they should be.
    """
    figures = showcase.read(folder)
    if tokens is not None:
        figures = [dataclasses.replace(figure, max_new_tokens=tokens) for figure in figures]
    loaded = load(run).in_float32()
    figures = [
        dataclasses.replace(figure, max_new_tokens=_bounded(loaded, figure.max_new_tokens))
        for figure in figures
    ]
    asked = [(figure, name) for figure in figures for name in figure.prompts]
    prompts = [figure.prompts[name] for figure, name in asked]
    # Together and cut afterwards: prompts of several calls would be given the same random numbers.
    longest = max(figure.max_new_tokens for figure in figures)
    with jax.set_mesh(loaded.mesh):
        made = _continued(loaded, prompts, longest, how, seed)
        made = dict(track(made, "prompts continued", total=len(prompts)))
    records = []
    for number, (figure, name) in enumerate(asked):
        most = figure.max_new_tokens
        record = _record(loaded, prompts[number], made[number][:most], most, how, seed)
        records.append({"figure": figure.name, "name": name, **record})
    written = run.showcase / f"{loaded.progress.step}"
    run_files.write_lines(written / "showcase.jsonl", records)
    run_files.write_text(written / "showcase.md", showcase.markdown(figures, records))
    run_files.write_text(written / "showcase.html", showcase.page(figures, records))
    print(f"{written}: showcase.html, showcase.md and showcase.jsonl")


def _bounded(loaded: LoadedRun, tokens: int) -> int:
    """The most tokens to add: as asked for, but no more than training had in a row."""
    window = loaded.mixture["sequence_tokens"]
    if tokens > window:
        _announce(f"adding at most {window} tokens, not {tokens}: training had no more in a row")
    return min(tokens, window)


def _announce(text: str) -> None:
    print(f"welm: {text}", file=sys.stderr)


def _continued(
    loaded: LoadedRun, prompts: Sequence[str], tokens: int, how: Sampling | BeamSearch, seed: int
) -> Iterator[tuple[int, list[int]]]:
    """The number of a prompt and its new ids, as they come; to be used under the mesh."""
    tokenizer, window = loaded.tokenizer, loaded.mixture["sequence_tokens"]
    asked = [[tokenizer.eod_id, *tokenizer.encode(prompt)] for prompt in prompts]
    longest = max(map(len, asked)) + tokens
    if longest > window:
        _announce(
            f"a prompt and its continuation may come to {longest} tokens; the model was trained on "
            f"{window} in a row, and what it writes beyond them is worse"
        )
    common = {
        "assemble": loaded.assemble,
        "parameters": loaded.parameters,
        "prompts": asked,
        "max_new_tokens": tokens,
        "eod_id": tokenizer.eod_id,
    }
    if isinstance(how, BeamSearch):
        return beam_search.search(**common, how=how)
    return continue_prompts(**common, how=how, seed=seed)


def _record(
    loaded: LoadedRun,
    prompt: str,
    new_ids: Sequence[int],
    tokens: int,
    how: Sampling | BeamSearch,
    seed: int,
) -> dict[str, Any]:
    """What was made of a prompt, and how."""
    if isinstance(how, BeamSearch):
        settings = {"temperature": 0.0, "beams": how.beams}
    else:
        settings = {"temperature": how.temperature, **dataclasses.asdict(how.limits)}
    return {
        "step": loaded.progress.step,
        "prompt": prompt,
        "continuation": loaded.tokenizer.decode(new_ids),
        **settings,
        "seed": seed,
        "max_new_tokens": tokens,
        "new_tokens": len(new_ids),
    }
