"""Our tokenizer as Hugging Face's library runs it, and its tokenizers with our face."""

import json
import random
import re
import shutil

import pytest
import tokenizers

from tests import byte_level
from tests.byte_level import read_back
from tests.text.test_tokenizer import TRICKY, config
from welm_jax.failures import InputError
from welm_jax.text import fast_tokenizer
from welm_jax.text.fast_tokenizer import FILE, SETTINGS_FILE, FastTokenizer, open_tokenizer
from welm_jax.text.tokenizer import train_tokenizer

HOSTILE = [
    *TRICKY,
    "𠮷𪚥\U0002a6df",
    "</s> </s></s><s><pad><unk> </ s><|endoftext|>",
    "<0x41><0xE4><0x0A><0xe4> <0x4 0x41",
    "......" * 3 + "！！！！！！" * 5 + "      " * 7,
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A vocabulary with runs of one character and markup, and the same as a tokenizer.json."""
    folder = tmp_path_factory.mktemp("fast")
    sample = [
        "天地玄黄，宇宙洪荒......",
        "！！！ ！！！！！！ 好",
        "</p><p></div> a = b   ;      c",
    ]
    ours = train_tokenizer(sample * 40, folder / "tokenizer.model", config(vocab_size=300))
    fast = read_back(folder, fast_tokenizer.as_fast(ours), fast_tokenizer.settings(ours, 64))
    return ours, fast


def texts():
    draw = random.Random(0)
    letters = "天地玄黄宇宙洪荒，。.! ！/<>ps0x41E\n\t\u2581\u3000𠮷ab="
    return (
        HOSTILE
        + ["……".join(HOSTILE[4:]).replace("\n", "") * 90]
        + ["".join(draw.choices(letters, k=draw.randrange(60))) for _ in range(3000)]
    )


def test_ids_are_ours_and_the_text_comes_back(pair):
    ours, fast = pair
    for text in texts():
        ids = ours.encode(text)
        assert fast.encode(text) == ids, text
        assert fast.decode(ids) == text


def test_it_knows_what_ours_knows(pair):
    ours, fast = pair
    assert (fast.vocab_size, fast.eod_id, fast.pad_id) == (
        ours.vocab_size,
        ours.eod_id,
        ours.pad_id,
    )
    assert [*map(fast.bytes_of, range(fast.vocab_size))] == [
        *map(ours.bytes_of, range(ours.vocab_size))
    ]


def test_no_piece_joins_what_is_cut(pair):
    """Though `</p>` is common in the sample."""
    joined = re.compile("[</][A-Za-z0-9]")
    assert not any(joined.search(one.text) for one in pair[0].pieces() if one.kind == "text")


def test_settings_of_somebodys_last_call_are_not_obeyed(pair, tmp_path):
    content = fast_tokenizer.as_fast(pair[0])
    content["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    content["padding"] = {
        "strategy": {"Fixed": 16},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    reader = read_back(tmp_path, content, fast_tokenizer.settings(pair[0], 64))
    assert [reader.encode(text) for text in HOSTILE] == [pair[0].encode(text) for text in HOSTILE]


def test_for_models_a_text_begins_with_an_end_of_document(pair, tmp_path):
    ours, fast = pair
    reader = tokenizers.Tokenizer.from_file(fast.model_file)
    assert reader.encode("天地").ids == [ours.eod_id, *ours.encode("天地")]


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    return byte_level.write(tmp_path_factory.mktemp("of_bytes"))


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_bytes_of_byte_level_pieces_make_the_text(of_bytes, text):
    ids = of_bytes.encode(text)
    assert b"".join(map(of_bytes.bytes_of, ids)).decode() == text
    assert of_bytes.decode(ids) == text


def test_a_special_token_in_a_text_is_text(of_bytes):
    assert of_bytes.eod_id == of_bytes.pad_id == 0
    ids = of_bytes.encode("the<|end|>   mat")
    assert of_bytes.eod_id not in ids
    assert of_bytes.vocab_size - 1 in ids  # three blanks, an added piece that is not special
    assert of_bytes.bytes_of(of_bytes.eod_id) == b""
    assert of_bytes.bytes_of(99_999) == b""
    assert of_bytes.decode([of_bytes.eod_id, *of_bytes.encode("the mat")]) == "the mat"


def test_lone_surrogates_are_refused(of_bytes):
    with pytest.raises(InputError, match="lone surrogate"):
        of_bytes.encode("a\ud800")


def test_either_kind_is_opened_by_its_name(pair):
    ours, fast = pair
    for one in pair:
        assert type(open_tokenizer(one.model_file)) is type(one)


def test_what_cannot_be_read_is_told(pair, tmp_path):
    content, settings = fast_tokenizer.as_fast(pair[0]), fast_tokenizer.settings(pair[0], 64)
    with pytest.raises(InputError, match="tokenizer.json cannot be read .*; a model of Hugging Fa"):
        FastTokenizer(tmp_path / FILE)
    with pytest.raises(InputError, match=r"its decoder is \['WordPiece'\]; known are ByteLevel"):
        read_back(tmp_path, content | {"decoder": {"type": "WordPiece"}}, settings)
    with pytest.raises(InputError, match="no tokenizer that can be read"):
        read_back(tmp_path, content | {"model": {"type": "none"}}, settings)
    with pytest.raises(
        InputError, match="no file in .* says what ends a document; give tokenizer_"
    ):
        read_back(tmp_path, content, {})
    with pytest.raises(
        InputError, match="names '<eos>' as eos_token, which the vocabulary has not"
    ):
        read_back(tmp_path, content, settings | {"eos_token": "<eos>"})


def beside(folder, of_bytes, **files):
    """The byte-level tokenizer with other files beside it: name without .json -> content."""
    shutil.copy(of_bytes.model_file, folder / FILE)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return FastTokenizer(folder / FILE)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "<|end|>"}},
        {"special_tokens_map": {"eos_token": {"content": "<|end|>"}}},
        {"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "<|end|>"}},
        {"tokenizer_config": {}, "generation_config": {"eos_token_id": 0}},
        {"generation_config": {"eos_token_id": [0]}, "config": {"eos_token_id": 5}},
        {"generation_config": {"eos_token_id": None}, "config": {"eos_token_id": 0}},
    ],
)
def test_what_ends_a_document_is_named_by_any_of_the_files_that_name_it(of_bytes, tmp_path, files):
    """Its settings written alone name it too: the same vocabulary, by the same digest."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "alone").mkdir()
    found = beside(tmp_path / "theirs", of_bytes, **files)
    assert found.eod_id == found.pad_id == 0
    alone = beside(tmp_path / "alone", of_bytes, tokenizer_config=json.loads(found.settings_text))
    (tmp_path / "alone" / SETTINGS_FILE).write_text(found.settings_text)
    alone = FastTokenizer(alone.model_file)
    assert (alone.eod_id, alone.sha256) == (found.eod_id, found.sha256)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"tokenizer_config": {"eos_token": 5}},
            "tokenizer_config.json beside .* names 5 as eos_t",
        ),
        (
            {"special_tokens_map": {"eos_token": {"text": "x"}}},
            "special_tokens_map.json .* as eos_",
        ),
        (
            {
                "tokenizer_config": {"eos_token": "<|end|>"},
                "special_tokens_map": {"eos_token": "a"},
            },
            "tokenizer_config.json and special_tokens_map.json .* name two tokens as eos_token",
        ),
        (
            {"generation_config": {"eos_token_id": "0"}},
            "generation_config.json says eos_token_id '0'",
        ),
        (
            {"generation_config": {"eos_token_id": [0, 2]}},
            r"eos_token_id \[0, 2\]; it must be one id",
        ),
        (
            {"config": {"eos_token_id": 10**12}},
            "config.json says eos_token_id 1000000000000; it must",
        ),
        (
            {"config": {"eos_token_id": -1}},
            "config.json says eos_token_id -1; it must be one id of",
        ),
        ({"special_tokens_map": [1]}, "special_tokens_map.json holds no JSON object"),
    ],
)
def test_a_special_token_that_is_not_one_is_refused_by_file_and_field(
    of_bytes, tmp_path, files, told
):
    with pytest.raises(InputError, match=told):
        beside(tmp_path, of_bytes, **files)
