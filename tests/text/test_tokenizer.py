import hashlib
import random
import re

import pytest
import sentencepiece

from tests.tiny_corpus import VOCAB_SIZE, curated_dir, documents, tokenizer_file, write_curated
from welm_jax.failures import InputError
from welm_jax.text.tokenizer import (
    PIECE_CHARACTERS,
    Piece,
    Tokenizer,
    TokenizerConfig,
    pieces_by_script,
    refuse_other_size,
    sample_texts,
    train_tokenizer,
)

SURROGATES = range(0xD800, 0xE000)
TRICKY = [
    "",
    " ",
    "  two blanks, a\ttab,\r\na line\n\n",
    "\u2581",
    "\u2581 \u2581\u2581 ▁a▁",
    "\u0000\u0001\u0007\u001b\u007f\u0085\u2028\u2029",
    "\ufeffBOM, \u202eoverride, \u200bzero width",
    "ＡＢＣ１２３ ﬁ ﬂ ① ㍻ 　全角",
    "e\u0301 é ไทย مرحبا नमस्ते 🏳️‍🌈👨‍👩‍👧",
    "</s><s><unk><pad><0x0A><0xE2>",
    "1998年12月31日 3.14159",
    "▅ what SentencePiece keeps for itself ▅",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(tokenizer_file())


def config(**changes):
    settings = {"curated_dir": "unused", "model_file": "unused", "vocab_size": VOCAB_SIZE}
    return TokenizerConfig(**(settings | changes))


@pytest.mark.parametrize("text", TRICKY, ids=range(len(TRICKY)))
def test_decoding_gives_back_the_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("plane", range(17))
def test_decoding_gives_back_every_character_of_a_plane(tokenizer, plane):
    points = [p for p in range(plane << 16, (plane + 1) << 16) if p not in SURROGATES]
    for start in range(0, len(points), 512):
        text = "".join(map(chr, points[start : start + 512]))
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("seed", range(20))
def test_decoding_gives_back_random_strings(tokenizer, seed):
    draw = random.Random(seed)
    alphabet = list("的 一\n\t\r\u2581\u2585aA0９。 ") + [chr(draw.randrange(0xE000, 0x110000))]
    for length in (1, 2, 3, 10, 100):
        for _ in range(20):
            text = "".join(draw.choices(alphabet, k=length))
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_text_never_becomes_a_control_id(tokenizer):
    ids = [token for text in TRICKY for token in tokenizer.encode(text)]
    assert min(ids) >= 4
    assert max(ids) < tokenizer.vocab_size == VOCAB_SIZE
    assert (tokenizer.pad_id, tokenizer.eod_id) == (0, 1)


def test_the_ids_of_a_line_depend_on_that_line_alone(tokenizer):
    lines = [line for text in TRICKY for line in text.split("\n")] + ["." * 12, "  " * 9]
    together = tokenizer.encode("\n".join(lines))
    between = tokenizer.encode("\n")
    apart = [token for line in lines for token in [*between, *tokenizer.encode(line)]]
    assert together == apart[len(between) :]


def test_scores_add_up_in_float32_without_rounding(tokenizer):
    scores = [one.score for one in tokenizer.pieces()]
    assert {(score * 64) % 1 for score in scores} == {0}
    assert len(set(scores)) > 20


def test_digits_newlines_and_tabs_stand_alone_however_common(tmp_path):
    texts = documents("news", "train", 60) + ["在1998年。\n在1998年。\t"] * 200
    tokenizer = train_tokenizer(texts, tmp_path / "m", config(vocab_size=450))
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("在1998年。\n\n。\t\t")]
    assert [piece for piece in pieces if set(piece) & set("189\n\t")] == list("1998\n\n\t\t")


def test_common_words_are_pieces_of_their_own(tokenizer):
    assert len(tokenizer.encode("老师在公园里看书")) <= 4


@pytest.mark.parametrize("blanks", [0, 1])
def test_blanks_that_the_sample_hardly_has_come_back(tmp_path, blanks):
    texts = ["".join(text.split()) for text in documents("news", "train", 60)] + [" 天"] * blanks
    tokenizer = train_tokenizer(
        texts, tmp_path / "m", config(vocab_size=450, character_coverage=0.98)
    )
    assert tokenizer.decode(tokenizer.encode(" 天  黑 了 \u2581 ")) == " 天  黑 了 \u2581 "


def test_control_ids_are_silent_when_decoded(tokenizer):
    assert tokenizer.decode([1, *tokenizer.encode("天黑了"), 1, 0, 0]) == "天黑了"


def test_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(InputError, match=r"lone surrogate, '\\ud800' at character 2"):
        tokenizer.encode("天黑\ud800了")


def test_sha256_is_of_the_model_file(tokenizer):
    assert tokenizer.sha256 == hashlib.sha256(tokenizer_file().read_bytes()).hexdigest()


def test_missing_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="none.model cannot be read .*welm train_tokenizer"):
        Tokenizer(tmp_path / "none.model")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9, 0.999])
def test_truncated_model_is_refused(tmp_path, kept):
    model = tokenizer_file().read_bytes()
    length = kept if isinstance(kept, int) else int(len(model) * kept)
    (tmp_path / "cut.model").write_bytes(model[:length])
    with pytest.raises(InputError, match="cut.model .*make .* `welm train_tokenizer`"):
        Tokenizer(tmp_path / "cut.model")


def test_sentencepiece_model_that_loses_text_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents("news", "train", 50)),
        model_prefix=str(tmp_path / "default"),
        vocab_size=200,
        minloglevel=3,
    )
    with pytest.raises(InputError, match="default.model loses characters"):
        Tokenizer(tmp_path / "default.model")


def test_same_text_gives_the_same_model(tmp_path):
    texts = documents("news", "train", 60)
    first = train_tokenizer(texts, tmp_path / "1.model", config(vocab_size=450))
    second = train_tokenizer(texts, tmp_path / "new" / "2.model", config(vocab_size=450))
    assert first.sha256 == second.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.model", "new"]


def test_training_is_silent(tmp_path, capfd):
    train_tokenizer(documents("news", "train", 60), tmp_path / "m", config(vocab_size=450))
    assert capfd.readouterr() == ("", "")


def test_no_text_is_skipped(tmp_path):
    # Left to itself SentencePiece skips sentences over 4,192 bytes and those with U+2585.
    texts = documents("news", "train", 60) + ["天" * 9_000 + "龘" * 50, "▅" + "虪" * 50]
    tokenizer = train_tokenizer(
        texts, tmp_path / "m", config(vocab_size=450, character_coverage=1.0)
    )
    for rare in "龘虪":
        assert len(tokenizer.encode(rare)) == 1


@pytest.mark.parametrize(
    "texts, vocab_size, message",
    [
        (["天黑了"] * 20, 5_000, r"vocab_size 5000 does not fit .*a value <= \d+\."),
        (["".join(map(chr, range(0x4E00, 0x5E00)))], 300, r"300 does not fit .* 300 vs 4\d{3}\."),
        ([], 300, "no text to train a tokenizer on"),
        (["", "▅"], 300, "no text to train a tokenizer on"),
    ],
)
def test_unfit_vocabulary_is_refused_and_nothing_written(tmp_path, texts, vocab_size, message):
    with pytest.raises(InputError, match=message):
        train_tokenizer(texts, tmp_path / "m", config(vocab_size=vocab_size))
    assert not list(tmp_path.iterdir())


def test_vocabulary_that_the_refusal_names_fits(tmp_path):
    texts = documents("news", "train", 60)
    with pytest.raises(InputError) as refusal:
        train_tokenizer(texts, tmp_path / "m", config(vocab_size=50_000))
    most = int(re.search(r"<= (\d+)", str(refusal.value))[1])
    assert train_tokenizer(texts, tmp_path / "m", config(vocab_size=most)).vocab_size == most


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vocab_size": 262}, "vocab_size 262: 262 ids are reserved; set .* above 262"),
        ({"sample_bytes": 0}, "TokenizerConfig.sample_bytes = 0; it must be 1 or more"),
        ({"character_coverage": 0.9}, "character_coverage 0.9 is not between 0.98 and 1"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(InputError, match=message):
        config(**change)


def sampled(folder, max_bytes):
    return list(sample_texts(folder, max_bytes))


def test_sample_never_reads_held_out_documents(tmp_path):
    write_curated(tmp_path, {("a", "train"): ["train"], ("a", "heldout"): ["held out"]})
    assert sampled(tmp_path, 1_000) == ["train"]


def test_sample_takes_the_same_from_each_source(tmp_path):
    texts = {(name, "train"): [name * 30] * 40 for name in "abc"}
    sample = "".join(sampled(write_curated(tmp_path, texts), 900))
    assert [sample.count(name) for name in "abc"] == [300, 300, 300]


def test_source_that_runs_dry_leaves_its_share_to_the_others(tmp_path):
    texts = {("a", "train"): ["a" * 100], ("b", "train"): ["b" * 100] * 50}
    sample = "".join(sampled(write_curated(tmp_path, texts), 1_000))
    assert [sample.count(name) for name in "ab"] == [100, 900]


def test_sample_stops_within_one_piece_of_its_size(tmp_path):
    novel = "天" * 100_000
    sample = sampled(write_curated(tmp_path, {("books", "train"): [novel]}, shards=1), 50_000)
    assert max(map(len, sample)) == PIECE_CHARACTERS
    assert 50_000 <= sum(len(text.encode()) for text in sample) < 50_000 + 3 * PIECE_CHARACTERS


def test_sample_goes_through_the_shards_in_order(tmp_path):
    texts = [f"document {number}" for number in range(100)]
    write_curated(tmp_path, {("a", "train"): texts}, shards=8)
    assert sampled(tmp_path, 300) == [*texts[0::8], *texts[1::8], *texts[2::8]][:28]


def test_sample_of_everything_holds_every_document():
    sample = sampled(curated_dir(), 10**9)
    for source, count in (("news", 120), ("books", 70), ("english", 40)):
        assert set(documents(source, "train", count)) <= set(sample)


def test_sample_of_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="beam_pipelines.curate first, or set CURATED_DIR"):
        sampled(tmp_path, 100)


def test_pieces_are_counted_by_the_script_of_their_first_letter():
    texts = "中国 微信 々 1中 the Ｗ é ひ カー ー 한국 да ไทย 123 ， \n"
    pieces = [Piece(text, -1.0, "text") for text in texts.split(" ")]
    pieces += [Piece("<0x41>", 0.0, "byte"), Piece("<unk>", 0.0, "control")]
    expected = {"Chinese": 4, "Latin": 3, "kana": 3, "no letter": 3}
    expected |= {"Hangul": 1, "Cyrillic": 1, "other scripts": 1}
    assert pieces_by_script(pieces) == expected


def test_a_model_of_another_size_is_not_overwritten(tmp_path):
    file = tmp_path / "tokenizer.model"
    refuse_other_size(config(model_file=str(file)))
    file.write_bytes(tokenizer_file().read_bytes())
    refuse_other_size(config(model_file=str(file)))
    with pytest.raises(InputError, match=f"has {VOCAB_SIZE} pieces, not 500, .*remove the file"):
        refuse_other_size(config(model_file=str(file), vocab_size=500))
