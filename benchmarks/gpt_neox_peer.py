"""The other side of gpu_suite: Hugging Face's GPT-NeoX in PyTorch, one measurement per process.

Reads a Work as one line of JSON and prints what it found as another. Float32 weights under
autocast, torch.compile, fused AdamW, gradients clipped to 1, and as attention the faster of flash
and cuDNN. The residual stream is in the type of the products, as ours is; of autocast alone it
would be float32, which moves more bytes.
"""

import json
import statistics
import sys
import time

import torch
import transformers
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, GPTNeoXConfig, GPTNeoXForCausalLM

from benchmarks.same_work import Work
from welm_jax import gpt_neox_layout

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def causal_attention(module, queries, keys, values, mask, scaling, **_):
    """Causal attention without a mask: compiled, transformers makes one, which flash refuses.

    It makes none for an attention that is not its own, such as this, known to it as "causal".
    """
    mixed = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=scaling
    )
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register("causal", causal_attention)


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def by_speed(work: Work) -> list[str]:
    """The attention kernels that run here, the fastest forward and backward pass first."""
    config, seconds = work.decoder(), {}
    shape = (work.microbatch, work.sequence_tokens, config.num_heads, config.head_width)
    dtype = getattr(torch, work.dtype)
    for name, backend in BACKENDS.items():
        heads = [torch.randn(shape, device=DEVICE, dtype=dtype).transpose(1, 2) for _ in range(3)]
        moments = []
        try:
            with sdpa_kernel(backend):
                for _ in range(6):
                    queries, keys, values = (one.clone().requires_grad_() for one in heads)
                    synchronize()
                    started = time.perf_counter()
                    functional.scaled_dot_product_attention(
                        queries, keys, values, is_causal=True
                    ).backward(heads[0])
                    synchronize()
                    moments.append(time.perf_counter() - started)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        seconds[name] = statistics.median(moments[1:])
    return sorted(seconds, key=seconds.get)


def loaded_model(work: Work) -> GPTNeoXForCausalLM:
    """Their model of the same shape with the same weights."""
    ours = work.decoder()
    config = GPTNeoXConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.d_model,
        num_hidden_layers=ours.num_layers,
        num_attention_heads=ours.num_heads,
        intermediate_size=4 * ours.d_model,
        max_position_embeddings=work.sequence_tokens,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 1.0,
        },
        use_parallel_residual=False,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="causal",
    )
    with torch.device(DEVICE):
        model = GPTNeoXForCausalLM(config).float().train()
    fill(model, work)
    return model


def fill(model: GPTNeoXForCausalLM, work: Work) -> None:
    """Writes the work's weights into a model, in the types that it has."""
    waiting = dict(model.named_parameters())
    for name, array in gpt_neox_layout.as_gpt_neox(work.weights()):
        waiting.pop(name).data.copy_(torch.from_numpy(array))
    if waiting:
        raise ValueError(f"no weights for {', '.join(waiting)}")


def make_step(work: Work, model: GPTNeoXForCausalLM):
    """A function that makes one optimizer step and gives the mean loss before it."""
    dtype = getattr(torch, work.dtype)
    tokens = torch.from_numpy(work.tokens()).long().to(DEVICE)
    parts = [rows.contiguous() for rows in tokens.split(work.microbatch)]
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=work.learning_rate,
        betas=(0.9, 0.95),
        eps=1e-8,
        fused=True,
    )

    # On a CPU its compiler is left out, and what is before it tried.
    @torch.compile(dynamic=False, backend="inductor" if DEVICE == "cuda" else "aot_eager")
    def loss_of(rows):
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            embedded = model.get_input_embeddings()(rows[:, :-1]).to(dtype)
            logits = model(inputs_embeds=embedded, use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())

    def step() -> float:
        losses = []
        for rows in parts:
            loss = loss_of(rows)
            (loss / len(parts)).backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        return float(torch.stack(losses).mean())

    return step


def measure(work: Work, attention: str) -> dict:
    """Times optimizer steps, each waited for, after some that do not count."""
    losses, moments = [], []
    with sdpa_kernel(BACKENDS[attention]):
        step = make_step(work, loaded_model(work))
        synchronize()
        moments.append(time.perf_counter())
        for _ in range(work.warm_up_steps + work.timed_steps):
            losses.append(step())
            synchronize()
            moments.append(time.perf_counter())
    seconds = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    timed = seconds[work.warm_up_steps :]
    return {
        "software": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "attention": attention,
        "seconds": timed,
        "losses": losses,
        "compile_seconds": max(0.0, seconds[0] - statistics.median(timed)),
        "peak_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None,
        "planned_bytes": None,
        "closed_form_bytes": None,
    }


def measure_fastest(work: Work) -> dict:
    """By the fastest attention kernel that torch.compile takes, too."""
    kernels = by_speed(work)
    if not kernels:
        raise RuntimeError("no attention kernel of PyTorch runs here")
    for attention in kernels[:-1]:
        try:
            return measure(work, attention)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            print(f"{attention}: {error}", file=sys.stderr)
    return measure(work, kernels[-1])


if __name__ == "__main__":
    if line := sys.stdin.readline():
        print(json.dumps(measure_fastest(Work(**json.loads(line)))))
