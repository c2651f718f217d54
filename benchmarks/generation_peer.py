"""The other side of generation: `generate` of Hugging Face's GPT-NeoX with a static cache.

Reads a Decoding as one line of JSON and says what it runs on; then, for each further line,
continues the prompts and prints ids and seconds as one line. Needs torch and transformers alone.
All weights are in the work's type; compiling is left to transformers, which on a GPU compiles each
step after the prompt, and so is the choice of attention.
"""

import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from benchmarks.gpt_neox_peer import DEVICE, fill
from benchmarks.same_work import Decoding
from welm_jax import gpt_neox_layout


def loaded_model(work: Decoding) -> torch.nn.Module:
    """Their model with the same weights, which never ends a document."""
    window = work.sequence_tokens + work.new_tokens
    settings = gpt_neox_layout.their_settings(work.decoder(), window, eod_id=0, pad_id=0)
    # Made in its type and not brought to it, which would round the rotary's frequencies.
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(
            GPTNeoXConfig(**settings), dtype=getattr(torch, work.dtype)
        ).eval()
    fill(model, work)
    model.generation_config.eos_token_id = None
    return model


def main(work: Decoding) -> None:
    """Serves rounds until there are no more lines."""
    model = loaded_model(work)
    prompts = torch.from_numpy(work.prompts()).long().to(DEVICE)
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    software = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(json.dumps({"device": device, "software": software}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=work.new_tokens,
            do_sample=False,
            cache_implementation="static",
        )
        ids = found[:, prompts.shape[1] :].tolist()  # which waits for the device
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "ids": ids}), flush=True)


if __name__ == "__main__":
    if line := sys.stdin.readline():
        main(Decoding(**json.loads(line)))
