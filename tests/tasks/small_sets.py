"""Evaluation sets of our own making, in the formats of the published ones."""

import gzip
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from welm_jax.tasks import chinese, cross_lingual
from welm_jax.tasks.prompted import EvalSet, Row


def write(folder: Path, split: str, records: list[dict], zipped: bool = False) -> None:
    """Writes a split as JSONL, gzipped under a name that does not say so if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    (folder / f"{split}.jsonl").write_bytes(gzip.compress(text) if zipped else text)


def write_tfds(folder: Path, language: str, records: list[dict]) -> Path:
    """Writes SQuAD's records as TFDS has them, in its ArrayRecord form; gives the dataset."""
    dataset = folder / "xquad" / language / "3.0.0"
    dataset.mkdir(parents=True)
    text, name = tfds.features.Text(), "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    features = tfds.features.FeaturesDict(
        {
            **dict.fromkeys(("id", "context", "question"), text),
            "answers": tfds.features.Sequence({"text": text, "answer_start": np.int32}),
        }
    )
    serializer = ExampleSerializer(features.get_serialized_info())
    writer = ArrayRecordWriter(str(dataset / "xquad-test.array_record-00000-of-00001"), "")
    for record in records:
        writer.write(serializer.serialize_example(features.encode_example(record)))
    writer.close()
    split = tfds.core.SplitInfo(
        name="test",
        shard_lengths=[len(records)],
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
            dataset_name="xquad",
            split="test",
            data_dir=dataset,
            filetype_suffix="array_record",
            template=name,
        ),
    )
    tfds.folder_dataset.write_metadata(
        data_dir=dataset,
        features=features,
        split_infos=[split],
        filename_template=name,
        check_data=False,
    )
    return dataset


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
    label = list(chinese.NEWS)[number % 15]
    return {"id": number, "sentence": f"第{number}条新闻", "label": label}


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


WEB = {
    "q_key": "Q1",
    "question_tokens": ["谁", "是"],
    "evidences": [{"golden_answers": [["李", "白"]]}, {"golden_answers": [["李", "白"]]}],
}


def sets_of_rows() -> list[tuple[Row, EvalSet]]:
    """Every set of every row."""
    return [(row, one) for row in (*chinese.ROWS, *cross_lingual.ROWS) for one in row.sets]


# A record of each set of which we have no file, in its published format: fields and marks are
# theirs, words are ours. Beside it what is right, a choice or an answer.
PUBLISHED = {
    "dureader_zhidao": (
        {
            "question_id": 186,
            "question_type": "ENTITY",
            "question": "煮鸡蛋要几分钟？",
            "answers": ["水开以后煮八分钟。", "八到十分钟。"],
            "documents": [
                {
                    "is_selected": True,
                    "title": "怎样煮鸡蛋",
                    "most_related_para": 1,
                    "paragraphs": ["先洗干净。", "水开以后再煮八分钟。"],
                }
            ],
        },
        "水开以后煮八分钟。",
    ),
    "pd": (
        {
            "document": ["村里 修 了 一 条 XXXXX 。", "这 条 公路 有 三 公里 长 。"],
            "query": "村里 修 了 一 条 XXXXX 。",
            "answer": "公路",
        },
        "公路",
    ),
    "chid10": (
        {
            "candidates": ["一心一意", "三心二意", "半途而废", "井井有条", "七上八下"],
            "content": [
                "他学琴总是#idiom000012#，所以学不好。",
                "她做事#idiom000013#，从不#idiom000014#。",
            ],
            "answers": {"#idiom000012#": 1, "#idiom000013#": 3, "#idiom000014#": 2},
        },
        "三心二意",
    ),
    "cmnli": (
        {"sentence1": "他们走了", "sentence2": "没有人走", "label": "contradiction"},
        "矛盾",
    ),
    "smp_ecisa": ({"id": "7-2", "text": "等了一个小时菜还没上", "label": "2"}, "负面"),
    "ttnews": (
        {
            "summarization": "小镇新开了一座图书馆，周末免费",
            "article": "本报讯<Paragraph>小镇昨天开了一座图书馆。<Paragraph>周末免费。<Paragraph>",
        },
        "小镇新开了一座图书馆，周末免费",
    ),
    "wmt20_zh_en": ({"zh": "今天下雨。", "en": "It rains today."}, "It rains today."),
    "wmt20_en_zh": ({"zh": "今天下雨。", "en": "It rains today."}, "今天下雨。"),
    "mlqa_zh_en": (
        {
            "id": "9f2c",
            "zh": {
                "context": "这座桥建于1905年。",
                "question": "桥是哪一年建的？",
                "answers": [{"text": "1905年", "answer_start": 4}],
            },
            "en": {
                "context": "The bridge was built in 1905.",
                "question": "When was the bridge built?",
                "answers": [{"text": "1905", "answer_start": 24}],
            },
        },
        "1905",
    ),
    "ncls_zh2en": (
        {"article": "小镇开了一座图书馆，周末免费。", "summary": "Town opens a free library."},
        "Town opens a free library.",
    ),
    "ncls_en2zh": (
        {"article": "The town opened a library . It is free .", "summary": "小镇开图书馆。 免费。"},
        "小镇开图书馆。 免费。",
    ),
}

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
