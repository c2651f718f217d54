"""A small byte-level tokenizer, of the kind that public GPT-NeoX models have."""

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from welm_jax.text.fast_tokenizer import FILE, SETTINGS_FILE, FastTokenizer


def read_back(folder: Path, content: dict, settings: dict) -> FastTokenizer:
    """Writes a tokenizer's two files and opens them."""
    (folder / FILE).write_text(json.dumps(content), encoding="utf-8")
    (folder / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
    return FastTokenizer(folder / FILE)


def write(folder: Path) -> FastTokenizer:
    """284 ids: the end of a document, bytes, some words, and last an added piece of blanks."""
    reader = tokenizers.Tokenizer(models.BPE())
    reader.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reader.decoder = decoders.ByteLevel()
    reader.train_from_iterator(
        ["the cat sat on the mat, the end", "天地玄黄"] * 9,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    reader.add_tokens(["   "])
    settings = {"eos_token": {"content": "<|end|>"}, "pad_token": None}
    return read_back(folder, json.loads(reader.to_str()), settings)
