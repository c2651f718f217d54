"""Weights and settings of our decoder and of Hugging Face's GPT-NeoX, each as the other's.

A matter of names and order, not of arithmetic: there and back is the same bits. Knows numpy and
neither jax nor torch.

Source: `models/gpt_neox` of transformers 5.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from welm_jax.failures import InputError
from welm_jax.model.config import ModelConfig

# Our name -> theirs; the names within a layer, then the rest.
LAYER_NAMES = {
    "ln1/scale": "input_layernorm.weight",
    "ln1/bias": "input_layernorm.bias",
    "qkv/kernel": "attention.query_key_value.weight",
    "qkv/bias": "attention.query_key_value.bias",
    "out/kernel": "attention.dense.weight",
    "out/bias": "attention.dense.bias",
    "ln2/scale": "post_attention_layernorm.weight",
    "ln2/bias": "post_attention_layernorm.bias",
    "up/kernel": "mlp.dense_h_to_4h.weight",
    "up/bias": "mlp.dense_h_to_4h.bias",
    "down/kernel": "mlp.dense_4h_to_h.weight",
    "down/bias": "mlp.dense_4h_to_h.bias",
}
OTHER_NAMES = {
    "embed/embedding": "gpt_neox.embed_in.weight",
    "final_norm/scale": "gpt_neox.final_layer_norm.weight",
    "final_norm/bias": "gpt_neox.final_layer_norm.bias",
}
HEAD_NAMES = ("embed_out.weight", "lm_head.weight")  # of files, and of the newest releases' modules
# What older files hold besides weights: masks and rotary frequencies, which follow from the sizes.
NO_WEIGHT = re.compile(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)")
# What theirs can be and our decoder is in one way only.
OURS_ALONE = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "attention_bias": True,
    "rope_theta": 10_000.0,
    "rope_type": "default",
}


def as_gpt_neox(weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Weights under their names, in their order: linear ones are (out, in).

    Args:
      weights: by our names, such as blocks/qkv/kernel, the padding rows of vocabularies left out.
    """
    for name, theirs in OTHER_NAMES.items():
        yield theirs, weights[name]
    if "head/embedding" in weights:
        yield HEAD_NAMES[0], weights["head/embedding"]
    for name, theirs in LAYER_NAMES.items():
        for layer, array in enumerate(weights[f"blocks/{name}"]):
            yield f"gpt_neox.layers.{layer}.{theirs}", _to_theirs(name, array)


def in_our_layout(
    read: Callable[[str], np.ndarray], names: set[str], config: ModelConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """Their weights under our names, layers stacked; the inverse of as_gpt_neox.

    Args:
      read: gives the weight of a name.
      names: that there are.
      config: of the decoder.

    Raises:
      InputError: a weight is missing or is not used; or the decoder ties its head to the embedding,
        and there is another head.
    """
    wanted = dict(OTHER_NAMES)
    if not config.ties_embeddings:
        wanted["head/embedding"] = next((one for one in HEAD_NAMES if one in names), HEAD_NAMES[0])
    layers = {
        name: [f"gpt_neox.layers.{layer}.{theirs}" for layer in range(config.num_layers)]
        for name, theirs in LAYER_NAMES.items()
    }
    if missing := {*wanted.values(), *sum(layers.values(), [])} - names:
        raise InputError(
            f"{len(missing)} of the weights of a GPT-NeoX are missing, {min(missing)} first; give "
            "a whole checkpoint of that architecture"
        )
    heads = {*HEAD_NAMES} & names if config.ties_embeddings else set()
    used = {*wanted.values(), *sum(layers.values(), []), *heads}
    if unused := {one for one in names - used if not NO_WEIGHT.fullmatch(one)}:
        raise InputError(
            f"{len(unused)} weights have no place in the decoder that config.json describes, "
            f"{min(unused)} first; do they belong together?"
        )
    for head in sorted(heads):
        if not np.array_equal(read(head), read(wanted["embed/embedding"])):
            raise InputError(
                f"config.json says tie_word_embeddings true, and {head} is another matrix than "
                f"{wanted['embed/embedding']}; set it to false, or take the head away"
            )
    for name, theirs in wanted.items():
        yield name, read(theirs)
    for name, of_layers in layers.items():
        try:
            parts = [_to_ours(name, read(theirs), config) for theirs in of_layers]
            yield f"blocks/{name}", np.stack(parts)
        except ValueError as error:
            raise InputError(
                f"{of_layers[0]} and those like it are not of the sizes in config.json"
            ) from error


def _to_theirs(name: str, array: np.ndarray) -> np.ndarray:
    match name:
        case "qkv/kernel":  # theirs is (heads, 3, head width) on the output axis
            return array.swapaxes(1, 2).reshape(len(array), -1).T
        case "qkv/bias":
            return array.swapaxes(0, 1).reshape(-1)
        case "out/kernel":
            return array.reshape(-1, array.shape[-1]).T
        case "up/kernel" | "down/kernel":
            return array.T
    return array


def _to_ours(name: str, array: np.ndarray, config: ModelConfig) -> np.ndarray:
    width, heads, head_width = config.d_model, config.num_heads, config.head_width
    match name:
        case "qkv/kernel":
            return array.T.reshape(width, heads, 3, head_width).swapaxes(1, 2)
        case "qkv/bias":
            return array.reshape(heads, 3, head_width).swapaxes(0, 1)
        case "out/kernel":
            return array.T.reshape(heads, head_width, width)
        case "up/kernel" | "down/kernel":
            return array.T
    return array


def their_settings(config: ModelConfig, window: int, eod_id: int, pad_id: int) -> dict[str, Any]:
    """The content of a config.json.

    Args:
      config: of the decoder.
      window: most tokens of a sequence.
      eod_id: what a document ends with, and begins with.
      pad_id: fills up batches.
    """
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.d_model,
        "intermediate_size": 4 * config.d_model,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": window,
        "tie_word_embeddings": config.ties_embeddings,
        "use_parallel_residual": config.parallel_residual,
        "hidden_act": OURS_ALONE["hidden_act"],
        "layer_norm_eps": OURS_ALONE["layer_norm_eps"],
        "attention_bias": OURS_ALONE["attention_bias"],
        # Once as release 5 has them, once as those before did.
        "rope_parameters": {
            "rope_type": OURS_ALONE["rope_type"],
            "rope_theta": OURS_ALONE["rope_theta"],
            "partial_rotary_factor": config.rotary_fraction,
        },
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": OURS_ALONE["rope_theta"],
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "bos_token_id": eod_id,
        "eos_token_id": eod_id,
        "pad_token_id": pad_id,
        "dtype": "float32",
    }


def our_config(settings: Mapping[str, Any]) -> ModelConfig:
    """The decoder that a config.json describes, computing in float32.

    Raises:
      InputError: it is of another architecture, of a kind of GPT-NeoX that ours cannot be, or
        quantised; or a field has a value that it cannot have.
    """
    if settings.get("model_type") != "gpt_neox":
        raise InputError(
            f"config.json says model_type {settings.get('model_type')!r}; only 'gpt_neox' can be "
            "read, such as the Pythia models"
        )
    if settings.get("quantization_config"):
        raise InputError(
            "config.json has a quantization_config; give the model with its weights as they were "
            "before they were quantised"
        )
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise InputError(f"config.json says of rotary positions {rope!r}; it must be an object")
    theirs = {
        "hidden_act": settings.get("hidden_act", "gelu"),
        "layer_norm_eps": settings.get("layer_norm_eps", 1e-5),
        "attention_bias": settings.get("attention_bias", True),
        "rope_theta": rope.get("rope_theta", settings.get("rotary_emb_base", 10_000)),
        "rope_type": rope.get("rope_type", rope.get("type", "default")),
    }
    width = _whole(settings, "hidden_size")
    theirs["intermediate_size"] = settings.get("intermediate_size", 4 * width)
    for name, value in (OURS_ALONE | {"intermediate_size": 4 * width}).items():
        if theirs[name] != value:
            raise InputError(
                f"config.json says {name} {theirs[name]!r}, and our decoder has {value!r} only"
            )
    turned = rope.get("partial_rotary_factor", settings.get("rotary_pct", 0.25))
    if type(turned) not in (int, float):
        raise _not_read("rotary_pct", turned, "a number above 0, and at most 1")
    return ModelConfig(
        num_layers=_whole(settings, "num_hidden_layers"),
        num_heads=_whole(settings, "num_attention_heads"),
        d_model=width,
        vocab_size=_whole(settings, "vocab_size"),
        ties_embeddings=_flag(settings, "tie_word_embeddings", False),
        parallel_residual=_flag(settings, "use_parallel_residual", True),
        rotary_fraction=turned,
        compute_dtype="float32",
    )


def our_window(settings: Mapping[str, Any]) -> int:
    """The most tokens of a sequence that a config.json names.

    Raises:
      InputError: it is not a whole number.
    """
    return _whole(settings, "max_position_embeddings", 2048)


def _whole(settings: Mapping[str, Any], name: str, default: int | None = None) -> int:
    if name not in settings and default is None:
        raise InputError(f"config.json has no {name}; give a whole one")
    value = settings.get(name, default)
    if type(value) is not int or not 1 <= value < 2**31:
        raise _not_read(name, value, "a whole number from 1 to 2147483647")
    return value


def _flag(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    value = settings.get(name, default)
    if not isinstance(value, bool):
        raise _not_read(name, value, "true or false")
    return value


def _not_read(name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"config.json says {name} {json.dumps(value)}; it must be {wanted}")
