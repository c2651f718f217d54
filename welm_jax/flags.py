"""What may be given to each verb of `welm` on the command line, besides gin's."""

import argparse
import os
import sys

LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")  # the first that is set names it


def text(argument: str) -> str:
    """Returns an argument as text, if its bytes are text in the locale's encoding or in UTF-8.

    Raises:
      ArgumentTypeError: they are in neither.
    """
    try:
        argument.encode()
        return argument
    except UnicodeEncodeError:  # there are bytes that Python could not decode
        pass
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        given = [f"{name}={os.environ[name]}" for name in LOCALE if os.environ.get(name)]
        raise argparse.ArgumentTypeError(
            f"its bytes are not UTF-8, nor text in your locale ({(given or ['LC_ALL=C'])[0]}, "
            f"which Python reads as {sys.getfilesystemencoding()}); give it in UTF-8"
        ) from None


RUN_DIR = ("--run_dir", {"required": True, "help": "the run folder"})
IMPORT = (
    "--import",
    {
        "dest": "imports",
        "action": "append",
        "default": [],
        "metavar": "MODULE",
        "help": "a module of yours that registers seqio Tasks and Mixtures",
    },
)
PLAN_FLAGS = (
    ("--target", {"required": True, "help": "the device, such as h100; a wrong one lists all"}),
    ("--devices", {"type": int, "required": True, "help": "how many of them"}),
    ("--batch_size", {"type": int, "default": 2048, "help": "sequences a step (2048)"}),
    ("--sequence_tokens", {"type": int, "default": 2048, "help": "tokens of each (2048)"}),
    ("--tokens", {"type": float, "default": 3e11, "help": "of the whole run (3e11)"}),
    ("--compile-top", {"type": int, "default": 1, "help": "candidates to compile (1)"}),
)
PROCESSES = (
    "--processes",
    {
        "metavar": "WHICH",
        "help": "one of several: `auto` under SLURM, Open MPI and on TPU VMs, or "
        "HOST:PORT,PROCESSES,NUMBER with the address of number 0",
    },
)
LADDER_FLAGS = (
    ("--ladder_dir", {"required": True, "help": "where ladder.svg and the rungs' run folders go"}),
    (
        "--rung",
        {
            "required": True,
            "action": "append",
            "metavar": "'NAME: NAME=VALUE ...'",
            "help": "a run, and what it binds or which gin files it adds over what all have in "
            "common; may be given several times",
        },
    ),
)
EVALUATE_FLAGS = (
    ("--data_dir", {"help": "holds a folder for each evaluation set; without it, held-out text"}),
    (
        "--task",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME",
            "help": "a task such as cmrc2018_0shot, or welm_table3, welm_table5 (both tables); may "
            "be given several times",
        },
    ),
    ("--limit", {"type": int, "help": "examples of each task, the first ones (all)"}),
    (
        "--window",
        {
            "type": int,
            "default": 2048,
            "help": "tokens that a prompt and its answer may take together (2048, as the paper's "
            "models; one trained on shorter rows is asked beyond them)",
        },
    ),
)
GENERATE_FLAGS = (
    (
        "--prompt",
        {
            "action": "append",
            "type": text,
            "metavar": "TEXT",
            "help": "a text to continue; may be given several times; --prompt=TEXT if it begins "
            "with -",
        },
    ),
    (
        "--showcase",
        {
            "nargs": "?",
            "const": True,
            "metavar": "FOLDER",
            "help": "instead of --prompt, our prompts for the paper's Figures 1 and 4 to 8 and "
            "Table 4, or a folder of YAML files like those in welm_jax/evaluate/showcase_prompts; "
            "writes RUN/showcase/<step>, in place of an earlier one",
        },
    ),
    (
        "--tokens",
        {
            "type": int,
            "help": "most tokens to add (64; showcase: as its files say), but no more than "
            "training had in a row",
        },
    ),
    (
        "--temperature",
        {"type": float, "help": "0 takes the likeliest (0; showcase: 0.8), up to 1e6"},
    ),
    (
        "--top_p",
        {
            "type": float,
            "help": "chooses among the likeliest tokens that together have this probability (1, "
            "which is all; showcase: 0.9)",
        },
    ),
    (
        "--top_k",
        {"type": int, "default": 0, "help": "chooses among so many tokens (0, which is all)"},
    ),
    ("--seed", {"type": int, "default": 0, "help": "of the sampling, below 2^32 (0)"}),
    ("--beams", {"type": int, "help": "instead of choosing token by token, searches with so many"}),
)
PROMPT_DEFAULTS = {"tokens": 64, "temperature": 0.0, "top_p": 1.0, "beams": None}
SHOWCASE_DEFAULTS = {"tokens": None, "temperature": 0.8, "top_p": 0.9, "beams": None}
CONVERT_FLAGS = (
    ("--to_hf", {"metavar": "FOLDER", "help": "a new folder, for the model"}),
    (
        "--from_hf",
        {
            "metavar": "FOLDER",
            "help": "holds a GPT-NeoX: config.json, safetensors, tokenizer.json and its settings; "
            "the run folder is new. Takes some four times the memory of its weights in float32",
        },
    ),
)
RECOVER_ACTIONS = {
    "status": ("where the run stands, the decisions, the checkpoints", (RUN_DIR,)),
    "why": (
        "feeds the suspect batches of a recovery again: was it the data or the state?",
        (("event", {"type": int, "metavar": "EVENT", "help": "the recovery's number"}), RUN_DIR),
    ),
    "roll-back": (
        "decides a recovery by hand, which the next `welm train` carries out",
        (
            ("--to", {"type": int, "required": True, "metavar": "STEP", "help": "a checkpoint"}),
            ("--skip", {"type": int, "default": 200, "help": "batches to skip from there (200)"}),
            (
                "--lr-factor",
                {"type": float, "default": 0.8, "help": "of the learning rate in force (0.8)"},
            ),
            RUN_DIR,
        ),
    ),
    "replay": (
        "says where the detector would have triggered on a curve",
        (("curve", {"metavar": "CURVE.csv", "help": "step,loss[,gradient_norm,loss_scale]"}),),
    ),
}
