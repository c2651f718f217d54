"""Makes gpt_neox_parity.npz: logits and gradients of Hugging Face's GPT-NeoX, in our layout.

    pip install torch==2.13.0 'transformers==5.23.*' numpy
    python tests/golden/make_gpt_neox_parity.py

For each of `tied` and `untied` it holds, in float32: `parameters/<our name>`, `tokens` [B, T + 1]
int32, and, for the mean next-token loss over all of them, `logits` [B, T, V], `loss` and
`gradients/<our name>`.
"""

from pathlib import Path

import numpy as np

SHAPE = {"num_layers": 2, "num_heads": 2, "d_model": 20, "vocab_size": 120}
ROWS, LENGTH = 2, 24
FILE = Path(__file__).with_name("gpt_neox_parity.npz")

# Our name -> theirs; a layer's own names, then the rest. Linear weights are transposed there.
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
HEAD_NAMES = ("lm_head.weight", "embed_out.weight")  # by release of transformers


def in_our_layout(theirs: dict[str, np.ndarray], ties_embeddings: bool) -> dict[str, np.ndarray]:
    """Weights, or gradients, of theirs under our names: a matter of order, not of arithmetic."""
    ours = {name: theirs[their_name] for name, their_name in OTHER_NAMES.items()}
    for name, their_name in LAYER_NAMES.items():
        layers = [
            _reordered(name, theirs[f"gpt_neox.layers.{layer}.{their_name}"])
            for layer in range(SHAPE["num_layers"])
        ]
        ours[f"blocks/{name}"] = np.stack(layers)
    if not ties_embeddings:
        ours["head/embedding"] = next(theirs[name] for name in HEAD_NAMES if name in theirs)
    return ours


def _reordered(name: str, array: np.ndarray) -> np.ndarray:
    heads, width = SHAPE["num_heads"], SHAPE["d_model"]
    head_width = width // heads
    match name:
        case "qkv/kernel":  # theirs is (heads, 3, head width) on the output axis
            return array.T.reshape(width, heads, 3, head_width).swapaxes(1, 2)
        case "qkv/bias":
            return array.reshape(heads, 3, head_width).swapaxes(0, 1)
        case "out/kernel":
            return array.T.reshape(heads, head_width, width)
        case "up/kernel" | "down/kernel":
            return array.T
    return array


def reference(ties_embeddings: bool, seed: int) -> dict[str, np.ndarray]:
    """Runs theirs with random weights, biases and LayerNorms; see the top of the file."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=SHAPE["vocab_size"],
            hidden_size=SHAPE["d_model"],
            num_hidden_layers=SHAPE["num_layers"],
            num_attention_heads=SHAPE["num_heads"],
            intermediate_size=4 * SHAPE["d_model"],
            hidden_act="gelu",
            layer_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 1.0,
            },
            use_parallel_residual=False,
            tie_word_embeddings=ties_embeddings,
            attn_implementation="eager",
        )
    ).float()
    for name, weight in model.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(weight, centre, 0.2)

    tokens = torch.randint(0, SHAPE["vocab_size"], (ROWS, LENGTH + 1))
    logits = model(tokens[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    gradients = {name: weight.grad.numpy() for name, weight in model.named_parameters()}
    found = {"tokens": tokens.numpy().astype(np.int32), "loss": loss.item()}
    found["logits"] = logits.detach().numpy()
    for group, theirs in (("parameters", weights), ("gradients", gradients)):
        for name, array in in_our_layout(theirs, ties_embeddings).items():
            found[f"{group}/{name}"] = array
    return found


if __name__ == "__main__":
    arrays = {
        f"{case}/{name}": array
        for case in ("tied", "untied")
        for name, array in reference(case == "tied", seed=0).items()
    }
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes, {len(arrays)} arrays")
