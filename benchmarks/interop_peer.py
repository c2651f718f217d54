"""What transformers makes of an exported model, and a model of its own to be read; for interop.

    PYTHON -m benchmarks.interop_peer < JOB.json

PYTHON needs torch and transformers alone, and lm-eval for a job that has a task. Nothing of
welm_jax is loaded. A job names `folder` (the model), `lines` (a JSON list of texts), `rows` (ids),
`prompts`, `new_tokens`, `task` (JSON lines of prompt, choices, gold; or null) and `to` (where
answers and the other model go).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def main(job: dict) -> None:
    """Answers a job in answers.npz and answers.json."""
    to = Path(job["to"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"])
    model = opened(job["folder"])
    lines = json.loads(Path(job["lines"]).read_text(encoding="utf-8"))
    ids = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
    answers = {
        "kind": type(model).__name__,
        "ids": ids,
        "texts_back": [tokenizer.decode(one) for one in ids] == lines,
        "continued": [
            continued(model, tokenizer, one, job["new_tokens"]) for one in job["prompts"]
        ],
        "harness": with_lm_eval(job["folder"], job["task"]) if job["task"] else None,
    }
    other = other_model(to / "general")
    rows = torch.tensor(job["rows"])
    with torch.no_grad():
        np.savez(
            to / "answers.npz",
            exported=model(rows).logits.numpy(),
            general=other(rows % other.config.vocab_size).logits.numpy(),
        )
    (to / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def opened(folder: str | Path) -> torch.nn.Module:
    """A model as transformers reads it, in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def continued(model: torch.nn.Module, tokenizer, prompt: str, new_tokens: int) -> str:
    """The greedy continuation, as any user of transformers would ask for it."""
    asked = tokenizer(prompt, return_tensors="pt")["input_ids"]
    given = model.generate(asked, max_new_tokens=new_tokens, do_sample=False)
    return tokenizer.decode(given[0, asked.shape[1] :], skip_special_tokens=True)


def other_model(folder: Path) -> torch.nn.Module:
    """A small GPT-NeoX as Pythia's are, in bfloat16 files, with a byte-level tokenizer."""
    import tokenizers

    reader = tokenizers.Tokenizer(tokenizers.models.BPE())
    reader.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    reader.decoder = tokenizers.decoders.ByteLevel()
    reader.train_from_iterator(
        ["a text of a few words, 几个字"] * 9,
        tokenizers.trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=reader, eos_token="<|endoftext|>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=300,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
    )
    model = transformers.GPTNeoXForCausalLM(config)
    for name, weight in model.named_parameters():  # at first values, many faults are silent
        torch.nn.init.normal_(weight, float("norm" in name and name.endswith("weight")), 0.1)
    model.bfloat16().save_pretrained(folder)  # which rounds the rotary's frequencies too, for good
    return opened(folder)


def with_lm_eval(folder: str, task_file: str) -> dict:
    """What lm-eval makes of a task of choices: its accuracy by sums, and the sums."""
    import lm_eval

    task = {
        "task": "local_choices",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": task_file}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": folder, "add_bos_token": True, "dtype": "float32"},
        tasks=[task],
        device="cpu",
        batch_size=8,
        bootstrap_iters=0,
        log_samples=True,
    )
    sums = {
        sample["doc_id"]: [float(one[0][0]) for one in sample["resps"]]
        for sample in found["samples"]["local_choices"]
    }
    accuracy = found["results"]["local_choices"]["acc,none"]
    return {"accuracy": accuracy, "sums": [sums[at] for at in range(len(sums))]}


if __name__ == "__main__":
    main(json.load(sys.stdin))
