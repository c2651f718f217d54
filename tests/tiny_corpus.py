"""A small corpus of our own making, its tokenizer and its token datasets, made once a test run."""

import atexit
import functools
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from beam_pipelines.ledger import PASSED, Counts, Ledger

SEQUENCE_TOKENS = 32
VOCAB_SIZE = 480

WHO = "老师 学生 医生 司机 记者 爷爷 邻居 船长 厨师 农民".split()
WHERE = "公园里 学校门口 河边 火车上 图书馆 山顶 菜市场 海边 小镇 城里".split()
DID = "看书 唱歌 等一位朋友 画一张地图 修理旧自行车 写一封长信 讨论明天的天气 买了三斤苹果".split()
THEN = "后来下雨了 大家都很高兴 他们一起回家 谁也没有说话 天慢慢黑了 故事就这样开始了".split()
ENGLISH = "the a old small river teacher letter walks reads under over and rain light stone".split()


def document(seed: int, english: bool = False) -> str:
    """Makes a few sentences by a template; some have numbers, tabs, blanks or line breaks."""
    draw = random.Random(seed)
    lines = []
    for _ in range(draw.randint(1, 9)):
        if english:
            words = draw.choices(ENGLISH, k=draw.randint(3, 12))
            lines.append(" ".join(words).capitalize() + draw.choice([". ", "?\n", ".\t"]))
        else:
            year = f"{draw.randint(1900, 2022)}年，" if draw.random() < 0.3 else ""
            lines.append(
                f"{year}{draw.choice(WHO)}在{draw.choice(WHERE)}{draw.choice(DID)}，"
                f"{draw.choice(THEN)}{draw.choice(['。', '！', '。' + chr(10), '  '])}"
            )
    return "".join(lines)


def documents(source: str, split: str, count: int) -> list[str]:
    """Makes documents that differ between sources and splits and never between runs."""
    first = int(hashlib.sha256(f"{source}/{split}".encode()).hexdigest()[:8], 16)
    return [document(first + number, english=source == "english") for number in range(count)]


def write_curated(
    folder: Path, texts: Mapping[tuple[str, str], Sequence[str]], shards: int = 2
) -> Path:
    """Writes documents as beam_pipelines.curate leaves them: (source, split) -> texts."""
    ledger = Ledger()
    for (source, split), mine in texts.items():
        size = sum(len(text.encode()) for text in mine)
        counts = Counts(len(mine), size, sum(map(len, mine)))
        ledger.add(source, "read", PASSED, counts)
        ledger.add(source, "written", split, counts)
        place = folder / "documents" / source
        place.mkdir(parents=True, exist_ok=True)
        for index in range(shards):
            part = list(mine[index::shards])
            columns = {
                "doc_id": [hashlib.md5(text.encode()).hexdigest() for text in part],
                "source": [source] * len(part),
                "url": [None] * len(part),
                "language": ["zh"] * len(part),
                "text": pyarrow.array(part, pyarrow.large_string()),
                "timestamp": [None] * len(part),
                "attributes": ["{}"] * len(part),
            }
            name = f"{split}-{index:05d}-of-{shards:05d}.parquet"
            pyarrow.parquet.write_table(pyarrow.table(columns), place / name)
    ledger = ledger.to_json(("read", "written"), {})
    (folder / "ledger.json").write_text(json.dumps(ledger))
    (folder / "samples.json").write_text("{}")
    return folder


@functools.cache
def curated_dir() -> Path:
    """A corpus of three sources of unlike size; `books` has nothing held out."""
    return write_curated(
        _folder() / "curated",
        {
            ("news", "train"): documents("news", "train", 120),
            ("news", "heldout"): documents("news", "heldout", 12),
            ("books", "train"): documents("books", "train", 70),
            ("books", "heldout"): [],
            ("english", "train"): documents("english", "train", 40),
            ("english", "heldout"): documents("english", "heldout", 5),
        },
    )


@functools.cache
def tokenizer_file() -> Path:
    """A vocabulary of VOCAB_SIZE pieces trained on the corpus."""
    from welm_jax.text.tokenizer import TokenizerConfig, sample_texts, train_tokenizer

    config = TokenizerConfig(
        curated_dir=str(curated_dir()),
        model_file=str(_folder() / "tokenizer.model"),
        vocab_size=VOCAB_SIZE,
    )
    train_tokenizer(sample_texts(curated_dir(), 1_000_000), config.model_file, config)
    return Path(config.model_file)


@functools.cache
def tokens_dir() -> Path:
    """The corpus as token datasets of SEQUENCE_TOKENS; never write into it, copy it."""
    from beam_pipelines.write_tokens import WriteTokensConfig, write_tokens

    folder = _folder() / "tokens"
    write_tokens(
        WriteTokensConfig(
            curated_dir=str(curated_dir()),
            tokenizer=str(tokenizer_file()),
            output_dir=str(folder),
            sequence_tokens=SEQUENCE_TOKENS,
        )
    )
    return folder


def run_gin(file: Path, train_steps: int, *more: str) -> Path:
    """Writes the configuration of a run on the corpus that compiles and trains in seconds.

    Args:
      file: where to.
      train_steps: of the run.
      more: lines that follow, and so win.
    """
    lines = f"""
include 'runs/pretrain.gin'
TOKENS_DIR = '{tokens_dir()}'
TRAIN_STEPS = {train_steps}
BATCH_SIZE = 8
MAX_LEARNING_RATE = 1e-2
WARMUP_STEPS = 2
REMAT = 'none'
MixtureConfig.rates = {{'news': 0.7, 'english': 0.3}}
ModelConfig.num_layers = 1
ModelConfig.num_heads = 2
ModelConfig.d_model = 32
ModelConfig.vocab_size = {VOCAB_SIZE}
ModelConfig.compute_dtype = 'float32'
StepConfig.loss_chunks = 2
"""
    file.write_text(lines + "".join(f"{line}\n" for line in more), encoding="utf-8")
    return file


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="welm_tiny_corpus_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
