"""Dialogs a second of PegeTrainer (PEGE) beside TRL's SFTTrainer (NLL) and the paper's way, a sample a response.

    python benchmarks/train.py [--dialogs 32] [--batch-size 8] [--repeats 5]

The base model with the same LoRA on the same dialogs (`chitchat`, the demo's source), as many a step, in float32 or,
with `--bf16`, with weights and products in bfloat16. A repeat is an epoch; the ways take turns. SFTTrainer learns the
assistant's messages only, as ours does; once as it ships (it recomputes activations), once without that, and once with
the linear layers of a model that we load (`pege.products`), so that the rest shows. The paper's way is our own trainer
with one sample a response: the context of each response is read again.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from real import read_dialogs
from rows import Row, show, table
from timing import time_steps

from pege.dialog import Dialog
from pege.emotion import load_emotion_classifier, with_emotions
from pege.lexicon import extend_lexicon, load_lexicon
from pege.models.causal import load_model, load_tokenizer, resolve_model
from pege.models.head import head_of
from pege.products import use_fast_products
from pege.training import LossSettings, PegeTrainer
from pege.training.samples import collate, make_samples

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
WORK = "training, LoRA"


def some_dialogs(n: int | None) -> list[Dialog]:
    """Dialogs of the demo's source with six utterances or more, the first n, or all."""
    long = (d for _, d in read_dialogs(["chitchat"]) if len(d.messages) >= 6)
    found = [d.model_copy(update={"messages": d.messages[:12]}) for d in itertools.islice(long, n)]
    return with_emotions(found, load_emotion_classifier().emotions)


def a_sample_a_response(dialogs: list[Dialog]) -> list[Dialog]:
    """Each dialog up to each of its responses."""
    return [
        d.model_copy(update={"messages": d.messages[: k + 1]}) for d in dialogs for k in range(1, len(d.messages), 2)
    ]


def measure(n_dialogs: int, batch_size: int, repeats: int, *, bf16: bool) -> list[Row]:
    """Train for an epoch with each way in turn."""
    dialogs = some_dialogs(n_dialogs)
    ours = "pege, PEGE loss, packed"
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], None]] = {
            ours: pege_epoch(dialogs, batch_size, folder, bf16=bf16),
            "pege, PEGE loss, padded": pege_epoch(dialogs, batch_size, folder, bf16=bf16, packs=False),
            "TRL SFTTrainer, NLL, as it ships": _sft(dialogs, batch_size, folder, bf16=bf16, checkpointing=True),
            "TRL SFTTrainer, NLL, no recomputation": _sft(dialogs, batch_size, folder, bf16=bf16),
            "TRL SFTTrainer, NLL, no recomputation, our products": _sft(
                dialogs, batch_size, folder, bf16=bf16, our_products=True
            ),
            "the paper's way, a sample a response": pege_epoch(
                dialogs, batch_size, folder, bf16=bf16, packs=False, each_response=True
            ),
        }
        times = time_steps(ways, repeats)
    rates = {name: [len(dialogs) / s for s in seconds] for name, seconds in times.items()}
    goals = {"TRL SFTTrainer, NLL, no recomputation": 1 / 0.7, "the paper's way, a sample a response": 3.0}
    work = f"{WORK}, {n_dialogs} dialogs, {batch_size} a step, {'bfloat16' if bf16 else 'float32'}"
    n_tokens = n_tokens_of(dialogs)
    return [
        Row(
            work, n, r, "dialogs/s", None if n == ours else rates[ours], goals.get(n),
            f"{statistics.median(r) * n_tokens / len(dialogs):,.0f} tokens of dialogs/s",
        )
        for n, r in rates.items()
    ]  # fmt: skip


def n_tokens_of(dialogs: list[Dialog]) -> int:
    """Tokens of the dialogs, each once, as the base model reads them in training."""
    tokenizer = load_tokenizer(resolve_model("base"))
    return sum(len(s["input_ids"]) for s in make_samples(dialogs, tokenizer, load_lexicon("pege-en")))


def plain_model(dtype: str) -> Any:
    """Load the base model as transformers does, for what others make of it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(resolve_model("base"), dtype=dtype).eval()


def _common(folder: str, batch_size: int, *, bf16: bool) -> dict[str, Any]:
    return {
        "output_dir": folder, "per_device_train_batch_size": batch_size, "num_train_epochs": 1, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1000, "bf16": bf16,
        "learning_rate": 1e-4, "train_sampling_strategy": "group_by_length",
    }  # fmt: skip


def pege_epoch(
    dialogs: list[Dialog],
    batch_size: int,
    folder: str,
    *,
    bf16: bool,
    packs: bool = True,
    each_response: bool = False,
    model: str = "base",
) -> Callable[[], None]:
    """Give an epoch with our trainer."""
    from peft import LoraConfig, get_peft_model
    from transformers import TrainingArguments

    found, tokenizer = load_model(model, dtype="bfloat16" if bf16 else "float32")
    lexicon = load_lexicon("pege-en")
    values = extend_lexicon(lexicon, tokenizer, n_rows=head_of(found).weight.shape[0]).values
    wrapped = get_peft_model(found, LoraConfig(task_type="CAUSAL_LM", **LORA))
    samples = list(make_samples(a_sample_a_response(dialogs) if each_response else dialogs, tokenizer, lexicon))
    if each_response:  # only its last response is learned
        for sample in samples:
            last = max(sample["n_utterances"])
            pairs = zip(sample["labels"], sample["n_utterances"], strict=True)
            sample["labels"] = [i if c == last else -100 for i, c in pairs]

    def epoch() -> None:
        trainer = PegeTrainer(
            model=wrapped, train_dataset=samples, token_vad=values, loss=LossSettings(),  # type: ignore[call-arg]
            args=TrainingArguments(
                **_common(folder, batch_size, bf16=bf16), remove_unused_columns=False, label_names=["labels"]
            ),
            data_collator=lambda rows: collate(rows, pad_id=tokenizer.pad_token_id),
        )  # fmt: skip
        trainer.packs = trainer.packs and packs
        trainer.train()

    return epoch


def _sft(
    dialogs: list[Dialog],
    batch_size: int,
    folder: str,
    *,
    bf16: bool,
    checkpointing: bool = False,
    our_products: bool = False,
) -> Callable[[], None]:
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    model = plain_model("bfloat16" if bf16 else "float32")
    tokenizer = load_tokenizer(resolve_model("base"))
    if our_products:
        use_fast_products(model)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA))
    rows = []
    for sample in make_samples(dialogs, tokenizer, load_lexicon("pege-en")):
        learned = [int(label != -100) for label in sample["labels"]]
        rows.append({"input_ids": sample["input_ids"], "completion_mask": learned})
    config = SFTConfig(
        **_common(folder, batch_size, bf16=bf16), gradient_checkpointing=checkpointing, max_length=None,
        dataset_num_proc=None, completion_only_loss=True,
    )  # fmt: skip
    data = Dataset.from_list(rows)

    def epoch() -> None:
        SFTTrainer(model=wrapped, args=config, train_dataset=data, processing_class=tokenizer).train()

    return epoch


app = App(help="Training beside TRL.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *, dialogs: int = 32, batch_size: int = 8, repeats: int = 5, bf16: bool = False, output: Path | None = None
) -> None:
    """Print the table; write it to a file where one is named."""
    text = table(measure(dialogs, batch_size, repeats, bf16=bf16))
    show(text, output)


if __name__ == "__main__":
    app()
