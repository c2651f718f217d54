"""Makes gpt_neox_parity.npz: logits and gradients of Hugging Face's GPT-NeoX, in its own layout.

    pip install torch==2.14.1 'transformers==5.24.*' numpy
    python -m tests.golden.make_gpt_neox_parity

For each of CASES it holds `config`, their config.json; in float32 `parameters/<their name>`;
`tokens` [B, T + 1], int32; and, for the mean next-token loss over all of them, `logits` [B, T, V],
`loss` and `gradients/<their name>`.
"""

from pathlib import Path

import numpy as np

from welm_jax.model.config import ModelConfig

SHAPE = {"num_layers": 2, "num_heads": 2, "d_model": 20, "vocab_size": 120}
ROWS, LENGTH = 2, 24
FILE = Path(__file__).with_name("gpt_neox_parity.npz")

CASES = {
    "tied": {"ties_embeddings": True},
    "untied": {"ties_embeddings": False},
    "general": {"ties_embeddings": False, "parallel_residual": True, "rotary_fraction": 0.4},
}


def config_of(case: str) -> ModelConfig:
    """Our decoder of a case."""
    return ModelConfig(**SHAPE, **CASES[case], compute_dtype="float32")


def reference(case: str, seed: int) -> dict[str, np.ndarray]:
    """Runs theirs with random weights, biases and LayerNorms; see the top of the file."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    config = config_of(case)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.d_model,
            hidden_act="gelu",
            layer_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": config.rotary_fraction,
            },
            use_parallel_residual=config.parallel_residual,
            tie_word_embeddings=config.ties_embeddings,
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
    found = {"tokens": tokens.numpy().astype(np.int32), "loss": loss.item()}
    found |= {"logits": logits.detach().numpy(), "config": model.config.to_json_string()}
    for name, weight in model.named_parameters():
        found[f"parameters/{name}"] = weight.detach().numpy()
        found[f"gradients/{name}"] = weight.grad.numpy()
    return found


if __name__ == "__main__":
    arrays = {
        f"{case}/{name}": array for case in CASES for name, array in reference(case, seed=0).items()
    }
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes, {len(arrays)} arrays")
