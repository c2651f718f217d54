"""Names, order and settings of GPT-NeoX: there and back, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from tests.golden import make_gpt_neox_parity
from tests.model.test_gpt_neox_parity import golden, group
from welm_jax.failures import InputError
from welm_jax.gpt_neox_layout import (
    as_gpt_neox,
    in_our_layout,
    our_config,
    our_window,
    their_settings,
)
from welm_jax.model.config import ModelConfig


def theirs_of(case):
    return group(golden(case), "parameters/")


def weights_of(case):
    theirs, config = theirs_of(case), make_gpt_neox_parity.config_of(case)
    return dict(in_our_layout(theirs.__getitem__, {*theirs}, config))


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_weights_have_the_names_and_the_order_of_transformers(case):
    """Read from what it wrote, and written, they are the same bits under the same names."""
    stored = theirs_of(case)
    written = dict(as_gpt_neox(weights_of(case)))
    if "lm_head.weight" in stored:  # what its modules say; its files say the other
        stored["embed_out.weight"] = stored.pop("lm_head.weight")
    assert written.keys() == stored.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(written[name], array)


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_settings_are_those_that_transformers_writes(case):
    """Its own file is read as the decoder of the case, and ours says what it says."""
    stored, config = json.loads(str(golden(case)["config"])), make_gpt_neox_parity.config_of(case)
    assert our_config(stored) == config
    ours = their_settings(config, window=2048, eod_id=0, pad_id=None)
    shared = set(stored) & set(ours) - {"dtype", "eos_token_id"}
    assert len(shared) > 15
    assert {name: ours[name] for name in shared} == {name: stored[name] for name in shared}
    older = {"rotary_pct", "rotary_emb_base"}  # names of releases before 5
    assert {*ours} - {*stored} <= older | {"pad_token_id", "architectures", "dtype"}


def test_queries_keys_and_values_stand_head_by_head():
    """Width 1, two heads of two: 10 x head + 3 x (q, k, v) + place, by hand."""
    ours = np.array([[[0, 1], [10, 11]], [[3, 4], [13, 14]], [[6, 7], [16, 17]]], np.float32)
    weights = {f"blocks/{name}": np.zeros((1, 1, 1)) for name in ("ln1/scale", "up/kernel")}
    weights |= {"blocks/qkv/kernel": ours[None, None], "blocks/qkv/bias": ours[None]}
    full = {name: weights.get(name, np.zeros((1, 1, 1))) for name in weights_of("tied")}
    theirs = dict(as_gpt_neox(full | {"blocks/out/kernel": np.zeros((1, 1, 1, 1))}))
    in_order = [0, 1, 3, 4, 6, 7, 10, 11, 13, 14, 16, 17]
    attention = "gpt_neox.layers.0.attention.query_key_value"
    assert theirs[f"{attention}.weight"].tolist() == [[number] for number in in_order]
    assert theirs[f"{attention}.bias"].tolist() == in_order


@pytest.mark.parametrize("case", make_gpt_neox_parity.CASES)
def test_settings_there_and_back_are_the_same_decoder(case):
    config = make_gpt_neox_parity.config_of(case)
    settings = their_settings(config, window=64, eod_id=1, pad_id=0)
    assert our_config(settings) == config


def test_what_a_file_leaves_out_is_as_transformers_has_it():
    """Pythia's files, which releases before 5 wrote."""
    settings = {
        "model_type": "gpt_neox",
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "vocab_size": 99,
        "intermediate_size": 128,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
    }
    assert our_config(settings) == ModelConfig(
        num_layers=2,
        num_heads=2,
        d_model=32,
        vocab_size=99,
        ties_embeddings=False,
        parallel_residual=True,
        rotary_fraction=0.25,
        compute_dtype="float32",
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "llama"}, "model_type 'llama'; only 'gpt_neox'"),
        ({"hidden_act": "gelu_fast"}, "hidden_act 'gelu_fast', and our decoder has 'gelu' only"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06, and our"),
        ({"intermediate_size": 100}, "intermediate_size 100, and our decoder has 80 only"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn', and our"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rope_theta 500000.0, and our"),
        ({"quantization_config": {"load_in_8bit": True}}, "has a quantization_config; give the"),
        ({"intermediate_size": None}, "intermediate_size None, and our decoder has 80 only"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps '1e-5', and our"),
    ],
)
def test_what_our_decoder_cannot_be_is_refused(change, told):
    settings = their_settings(make_gpt_neox_parity.config_of("tied"), 64, 1, 0)
    with pytest.raises(InputError, match=told):
        our_config(settings | change)


def test_settings_that_lack_a_size_are_refused():
    with pytest.raises(InputError, match="has no vocab_size"):
        settings = their_settings(make_gpt_neox_parity.config_of("tied"), 64, 1, 0)
        our_config({name: value for name, value in settings.items() if name != "vocab_size"})


WHOLE = "it must be a whole number from 1 to 2147483647"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_size": None}, f"hidden_size null; {WHOLE}"),
        ({"vocab_size": "512"}, f'vocab_size "512"; {WHOLE}'),
        ({"num_hidden_layers": 2.0}, f"num_hidden_layers 2.0; {WHOLE}"),
        ({"num_hidden_layers": True}, f"num_hidden_layers true; {WHOLE}"),
        ({"num_attention_heads": 0}, f"num_attention_heads 0; {WHOLE}"),
        ({"num_attention_heads": [2]}, rf"num_attention_heads \[2\]; {WHOLE}"),
        ({"vocab_size": 10**30}, f"vocab_size 1{'0' * 30}; {WHOLE}"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings null; it must be true or false"),
        ({"use_parallel_residual": "false"}, 'residual "false"; it must be true or false'),
        ({"rope_parameters": None, "rotary_pct": None}, "rotary_pct null; it must be a number"),
        (
            {"rope_parameters": {"partial_rotary_factor": "1"}},
            'rotary_pct "1"; it must be a number',
        ),
        ({"rope_parameters": [1]}, r"of rotary positions \[1\]; it must be an object"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_its_name(change, told):
    settings = their_settings(make_gpt_neox_parity.config_of("tied"), 64, 1, 0)
    with pytest.raises(InputError, match=f"config.json says .*{told}"):
        our_config(settings | change)


def test_the_window_is_a_whole_number_and_has_transformers_own_default():
    assert our_window({}) == 2048 and our_window({"max_position_embeddings": 64}) == 64
    with pytest.raises(InputError, match=f'max_position_embeddings "64"; {WHOLE}'):
        our_window({"max_position_embeddings": "64"})


def test_a_weight_without_a_place_is_refused_by_its_name():
    """A layer more than config.json has; a scale of quantised weights; a second head."""
    theirs, config = (
        dict(as_gpt_neox(weights_of("untied"))),
        make_gpt_neox_parity.config_of("untied"),
    )
    fewer = dataclasses.replace(config, num_layers=config.num_layers - 1)
    more = f"gpt_neox.layers.{fewer.num_layers}.attention.dense.bias"
    with pytest.raises(InputError, match=f"12 weights have no place .*, {more} first"):
        dict(in_our_layout(theirs.__getitem__, {*theirs}, fewer))
    for name in ("gpt_neox.layers.0.mlp.dense_h_to_4h.SCB", "lm_head.weight"):
        with pytest.raises(InputError, match=f"1 weights have no place .*, {name} first"):
            dict(in_our_layout(theirs.__getitem__, {*theirs, name}, config))


def test_masks_and_frequencies_of_older_files_are_no_weights():
    theirs, config = (
        dict(as_gpt_neox(weights_of("untied"))),
        make_gpt_neox_parity.config_of("untied"),
    )
    older = {
        f"gpt_neox.layers.{layer}.attention.{name}"
        for layer in range(config.num_layers)
        for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
    }
    assert dict(in_our_layout(theirs.__getitem__, {*theirs} | older, config)).keys() == {
        *weights_of("untied")
    }


@pytest.mark.parametrize("head", ["embed_out.weight", "lm_head.weight"])
def test_a_tied_head_may_be_there_once_more_but_no_other(head):
    theirs, config = dict(as_gpt_neox(weights_of("tied"))), make_gpt_neox_parity.config_of("tied")
    theirs[head] = theirs["gpt_neox.embed_in.weight"].copy()
    assert dict(in_our_layout(theirs.__getitem__, {*theirs}, config)).keys() == {
        *weights_of("tied")
    }
    theirs[head][0, 0] += 1
    with pytest.raises(InputError, match=f"tie_word_embeddings true, and {head} is another matrix"):
        dict(in_our_layout(theirs.__getitem__, {*theirs}, config))


def test_missing_weights_are_told():
    theirs = dict(as_gpt_neox(weights_of("untied")))
    del theirs["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"], theirs["embed_out.weight"]
    config = make_gpt_neox_parity.config_of("untied")
    with pytest.raises(InputError, match="2 of the weights .* missing, embed_out.weight first"):
        dict(in_our_layout(theirs.__getitem__, {*theirs}, config))
