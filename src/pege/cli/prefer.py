"""``pege prefer``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from pege.cli.decoding import Decoding

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def prefer(
    *,
    agent: str,
    user: str = "base",
    starters: str,
    n_starters: Count | None = None,
    output: Path,
    lexicon: str = "pege",
    turns: Annotated[int, Parameter(validator=Number(gte=2))] = 10,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    batch_size: Count = 50,
    steps: Count = 60,
    learning_rate: float = 5e-5,
    beta: float = 0.1,
    train_batch: Count = 8,
    lora_rank: Count = 16,
    decoding: Annotated[Decoding | None, Parameter(name="*")] = None,
) -> None:
    """Train a run further by preference (DPO): of two responses in self-chats, the one that PEGE-Score rewards more.

    Needs `pip install 'pege[prefer]'`. Stopped, the same command goes on with the next batch of self-chats,
    or from the last checkpoint of the training.

    Args:
        agent: a run of a causal LM, trained with NLL; it speaks, and it is what is trained.
        user: who plays the user.
        starters: rows, a file or a folder of a corpus; not those of the self-chats that are scored.
        n_starters: how many, drawn by the seed; all unless named.
        output: the run folder; the pairs are in OUTPUT/pairs.jsonl.
        lexicon: of the reward.
        turns: of a self-chat.
        seed: of self-chats and training.
        batch_size: dialogs side by side.
        steps: of training.
        learning_rate: of training.
        beta: of DPO: how close the model stays to the one it starts from.
        train_batch: pairs a step.
        lora_rank: of the adapter, on all linear layers.
        decoding: how both sides decode.
    """
    from pege.agent import agent_name
    from pege.emotion import load_emotion_classifier, with_emotions
    from pege.lexicon import load_lexicon
    from pege.selfchat import is_done, load_starters, pick_starters
    from pege.selfchat.pairs import pair_settings, read_pairs, run_pairs
    from pege.training.preference import check_preferable, run_preference

    check_preferable(agent)
    decoding = decoding or Decoding()
    rows = load_starters(starters)
    if n_starters is not None:
        rows = pick_starters(rows, n_starters, np.random.default_rng(seed))
    settings = {"starters": starters, **decoding.settings()}
    how: dict[str, Any] = {"n_turns": turns, "seed": seed, "batch_size": batch_size, "settings": settings}
    rewarding, file = load_lexicon(lexicon), output / "pairs.jsonl"
    if not is_done(file, pair_settings(agent_name(agent), agent_name(user), rewarding, n_starters=len(rows), **how)):
        rows = with_emotions(rows, load_emotion_classifier().emotions, anew=True)
        speakers = decoding.load(agent), decoding.load(user, "user")
        output.mkdir(parents=True, exist_ok=True)
        run_pairs(*speakers, rows, rewarding, file, **how)
    training = {
        "max_steps": steps, "learning_rate": learning_rate, "beta": beta, "per_device_train_batch_size": train_batch,
        "seed": seed,
    }  # fmt: skip
    lora = {"r": lora_rank, "lora_alpha": 2 * lora_rank, "target_modules": "all-linear"}
    dtype = "auto" if decoding.dtype == "fast" else decoding.dtype
    run_preference(agent, read_pairs(file), output, lora=lora, training=training, dtype=dtype)
    print(output)
