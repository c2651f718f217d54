"""The text of registered seqio Tasks, for write_tokens to make token datasets of.

Loads seqio, and so TensorFlow, but only when called. Deliberately does not know rows or files.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from welm_jax.failures import InputError

# Our name of a split: the Task's names for it, the first that it has.
NAMES_OF_SPLITS = {"train": ("train",), "heldout": ("heldout", "validation")}
TEXT_FIELDS = ("targets_pretokenized", "targets", "text")


def task_splits(task: str, modules: Sequence[str]) -> Mapping[str, str]:
    """Finds out which splits a Task has text for.

    Args:
      task: its registered name.
      modules: what to import so that it is registered.

    Returns:
      "train" and, where there is one, "heldout" -> the Task's own name for it.

    Raises:
      InputError: a module cannot be imported, or no such Task or no split for training is in it.
    """
    own = _task(task, modules).splits
    found = {
        split: next(name for name in names if name in own)
        for split, names in NAMES_OF_SPLITS.items()
        if set(names) & set(own)
    }
    if "train" not in found:
        raise InputError(f"seqio Task {task} has no split train, only {', '.join(own)}; add one")
    return found


def task_texts(task: str, split: str, modules: Sequence[str]) -> Iterator[str]:
    """Yields the text of a Task's examples, once each, in the order of its source.

    Args:
      task: its registered name.
      split: the Task's own name for the split.
      modules: what to import so that it is registered.

    Raises:
      InputError: its examples hold no text: neither `targets` nor `text` as a string, nor
        `targets` tokenised by seqio, which keeps the text as `targets_pretokenized`.
    """
    examples = _task(task, modules).get_dataset(
        sequence_length=None, split=split, use_cached=False, shuffle=False
    )
    for example in examples.as_numpy_iterator():
        fields = (example.get(field) for field in TEXT_FIELDS)
        text = next((field for field in fields if isinstance(field, bytes)), None)
        if text is None:
            raise InputError(
                f"seqio Task {task} has no text in {', '.join(sorted(example))}; give its examples "
                "`targets` or `text` as a string, or tokenise by seqio.preprocessors.tokenize"
            )
        yield text.decode()


def _task(name: str, modules: Sequence[str]) -> Any:
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise InputError(f"--import {module}: {error}; install it or run beside it") from error
    import seqio

    if name not in seqio.TaskRegistry.names():
        raise InputError(
            f"no seqio Task {name} after importing {', '.join(modules) or 'nothing'}; "
            "--import the module that registers it"
        )
    return seqio.TaskRegistry.get(name)
