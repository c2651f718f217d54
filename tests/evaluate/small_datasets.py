"""Real token datasets of a few documents, and the tokenizer that made them."""

import hashlib
from pathlib import Path

from beam_pipelines import token_files
from welm_jax.text.records import TokenMetadata, TokenSplit, pack
from welm_jax.text.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

SEQUENCE_TOKENS = 16
SENTENCES = [
    "今天天气很好。",
    "明天可能下雨，出门带伞。",
    "The rain stayed in the plain.",
    "话说天下大势，",
]
TEXTS = {
    "news": {
        "train": [one * 3 for one in SENTENCES],
        "heldout": ["今天下雨。", "明天天气好。\n𠀀"],
    },
    "books": {"train": ["分久必合，合久必分。" * 5], "heldout": ["天下大势，分久必合。" * 6]},
}
VOCAB_SIZE = 306


def small_tokenizer(folder: Path) -> Tokenizer:
    config = TokenizerConfig(
        curated_dir="", model_file="", vocab_size=VOCAB_SIZE, character_coverage=1.0
    )
    texts = [text for splits in TEXTS.values() for text in splits["train"]]
    return train_tokenizer(texts, folder / "tokenizer.model", config)


def write_datasets(
    folder: Path, tokenizer: Tokenizer, texts=TEXTS, together: bool = False
) -> dict[str, str]:
    """Writes a dataset for each source; each document of a split has a shard, or all have one."""
    features = token_files.row_features(SEQUENCE_TOKENS, tokenizer.vocab_size)
    folders = {}
    for source, of_split in texts.items():
        (folder / source).mkdir(parents=True)
        splits = {}
        for split, documents in of_split.items():
            shards, tokens = [], 0
            groups = [documents] if together else [[document] for document in documents]
            for index, group in enumerate(groups):
                ids = [*map(tokenizer.encode, group)]
                rows = pack(ids, SEQUENCE_TOKENS, tokenizer.eod_id, tokenizer.pad_id)
                name = token_files.file_name(source, split, index, len(groups))
                shards.append(token_files.write_rows(folder / source / name, rows, features))
                tokens += sum(map(len, ids)) + len(ids)
            splits[split] = TokenSplit(
                documents=len(documents),
                tokens=tokens,
                characters=sum(map(len, documents)),
                rows=sum(shard.rows for shard in shards),
                shards=tuple(shards),
            )
        metadata = TokenMetadata(
            source=source,
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            sequence_tokens=SEQUENCE_TOKENS,
            eod_id=tokenizer.eod_id,
            pad_id=tokenizer.pad_id,
            ledger_digest=hashlib.sha256(b"").hexdigest(),
            splits=splits,
        )
        token_files.describe(folder / source, metadata)
        folders[source] = str(folder / source)
    return folders
