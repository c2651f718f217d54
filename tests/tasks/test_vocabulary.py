import pytest
import seqio
import tensorflow as tf

from tests.tiny_corpus import VOCAB_SIZE, documents, tokenizer_file
from welm_jax.failures import InputError
from welm_jax.tasks.vocabulary import WelmVocabulary
from welm_jax.text.tokenizer import Tokenizer

TEXTS = [*documents("news", "heldout", 5), "", "\u2581▁ \t\n\r", "</s> 🏳️‍🌈 \u0000 1998"]


@pytest.fixture(scope="module")
def vocabulary():
    return WelmVocabulary(str(tokenizer_file()))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_every_way_of_encoding_is_the_tokenizers(vocabulary, text):
    ids = Tokenizer(tokenizer_file()).encode(text)
    assert vocabulary.encode(text) == ids
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_every_way_of_decoding_gives_back_the_text(vocabulary, text):
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode() == text


def test_decoding_stops_at_the_end_of_the_document(vocabulary):
    ids = [*vocabulary.encode("天黑了"), 1, *vocabulary.encode("下雨了")]
    assert vocabulary.decode(ids) == "天黑了"
    assert vocabulary.decode_tf(tf.constant(ids)).numpy().decode() == "天黑了"


def test_ids_are_what_seqio_takes_for_granted(vocabulary):
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
    assert vocabulary.vocab_size == VOCAB_SIZE


def test_vocabularies_of_one_model_are_equal(vocabulary):
    assert vocabulary == WelmVocabulary(str(tokenizer_file()))
    assert vocabulary != seqio.ByteVocabulary()


def test_missing_model_is_refused():
    with pytest.raises(InputError, match="none cannot be read"):
        WelmVocabulary("none")


def test_task_of_text_is_tokenised_by_it(vocabulary):
    texts = [text for text in TEXTS if text]
    task = seqio.Task(
        "stories",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"targets": texts}
            ),
            splits=["train"],
        ),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"targets": seqio.Feature(vocabulary)},
    )
    dataset = task.get_dataset(sequence_length=None, split="train", shuffle=False)
    tokenizer = Tokenizer(tokenizer_file())
    for text, example in zip(texts, dataset.as_numpy_iterator(), strict=True):
        assert example["targets"].tolist() == [*tokenizer.encode(text), 1]
