"""Evaluation sets of our own making, in the formats of the published ones."""

import gzip
import json
from pathlib import Path


def write(folder: Path, split: str, records: list[dict], zipped: bool = False) -> None:
    """Writes a split as JSONL, gzipped under a name that does not say so if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    (folder / f"{split}.jsonl").write_bytes(gzip.compress(text) if zipped else text)


def squad(number: int, passage: int | None = None) -> dict:
    """A question about a short passage; several may share one."""
    place = number if passage is None else passage
    return {
        "id": f"Q{number}",
        "context": f"第{place}号仓库里存放着{place + 3}箱苹果。",
        "question": f"仓库{place}里有什么？（{number}）",
        "answers": [{"text": "苹果", "answer_start": 3}, {"text": f"{place + 3}箱苹果"}],
    }


def nli(number: int) -> dict:
    """A pair of sentences with one of three labels, by turns."""
    label = ("entailment", "neutral", "contradiction")[number % 3]
    return {"id": number, "sentence1": f"今天是{number}号", "sentence2": "今天下雨", "label": label}


def news(number: int) -> dict:
    """A headline with one of fifteen labels."""
    from welm_jax.tasks.chinese import NEWS

    return {"id": number, "sentence": f"第{number}条新闻", "label_desc": list(NEWS)[number % 15]}


def idiom(number: int) -> dict:
    """A passage without its idiom."""
    return {
        "id": number,
        "content": f"他做事总是#idiom#，第{number}次也是这样。",
        "candidates": ["一心一意", "三心二意", "半途而废"],
        "answer": number % 3,
    }


def dialogue(number: int) -> dict:
    """A question with options of unequal length."""
    return {
        "id": f"d{number}",
        "document": [f"男：{number}点见。", "女：好的。"],
        "question": "他们几点见？",
        "choice": [f"{number}点", f"{number + 1}点整", "不知道"],
        "answer": f"{number}点",
    }


def translation(number: int) -> dict:
    """A sentence in two languages."""
    return {"idx": number, "zh": f"我有{number}本书。", "en": f"I have {number} books."}


SETS = {
    "cmrc2018": squad,
    "ocnli": nli,
    "tnews": news,
    "chid": idiom,
    "c3": dialogue,
    "wmt21_zh_en": translation,
}


def write_all(folder: Path, count: int = 6) -> Path:
    """All of SETS, with a pool to demonstrate from that shares no text with what is asked."""
    for name, record in SETS.items():
        write(folder / name, "validation", [record(number) for number in range(count)])
        write(folder / name, "train", [record(1000 + number) for number in range(10)])
    return folder
