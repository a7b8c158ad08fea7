"""Training of a classifier on labelled text: tokenizer, TextCNN by the Hugging Face Trainer, temperature."""

from __future__ import annotations

import gzip
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pege.emotion.calibration import fit_temperature
from pege.emotion.classifier import ClassifierConfig, EmotionClassifier, encode, pad
from pege.emotion.evaluation import evaluate, macro_f1
from pege.emotion.labelled import LabelledTexts
from pege.emotion.textcnn import TextCnn, TextCnnShape
from pege.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)
PADDING, UNKNOWN, WORD_END = "[PAD]", "[UNK]", "</w>"


class TrainOptions(BaseModel):
    """How a classifier is trained.

    Attributes:
        name: what signatures will call it.
        vocabulary_size: pieces of the tokenizer, at most.
        embedding_size: numbers per piece.
        widths: pieces that a convolution sees at once (Kim 2014 has 3, 4, 5).
        n_filters: convolutions per width.
        dropout: of the pooled features.
        n_epochs: passes over the training texts; the best on the validation texts is kept.
        batch_size: texts a step.
        learning_rate: of AdamW.
        label_smoothing: share of each target spread over the three classes.
        max_pieces: pieces read of a text.
        seed: of initialisation, order and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(default="textcnn", min_length=1, max_length=100)
    vocabulary_size: int = Field(default=16_000, ge=100, le=500_000)
    embedding_size: int = Field(default=128, ge=1, le=4096)
    widths: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(default=(2, 3, 4, 5), min_length=1, max_length=16)
    n_filters: int = Field(default=100, ge=1, le=4096)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    n_epochs: int = Field(default=6, ge=1, le=1000)
    batch_size: int = Field(default=64, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    max_pieces: int = Field(default=128, ge=8, le=10_000)
    seed: int = Field(default=0, ge=0, lt=2**32)


def train_emotion_classifier(
    train: LabelledTexts,
    validation: LabelledTexts,
    output_dir: Path | str,
    *,
    options: TrainOptions | None = None,
    word_vectors: Path | str | None = None,
) -> dict[str, Any]:
    """Train a classifier, fit its temperature on the validation texts, and save it.

    Args:
        train: texts to learn from, with labels or probabilities.
        validation: texts that pick the best epoch and the temperature.
        output_dir: folder for model.safetensors, tokenizer.json, config.json, training.json and card.md.
        options: sizes, steps and seed.
        word_vectors: what the embeddings of whole words start from (Kim's CNN-non-static), ``word v1 v2 ...`` a line
            as word2vec writes it, plain or .gz, of the size ``options.embedding_size``; other pieces start at random.

    Returns:
        The evaluation on the validation texts, see ``evaluation.evaluate``.

    Raises:
        InputError: the folder cannot be written, or the vectors cannot be read.
    """
    options = options or TrainOptions()
    tokenizer = train_tokenizer(train.texts, vocabulary_size=options.vocabulary_size)
    shape = TextCnnShape(
        vocabulary_size=tokenizer.get_vocab_size(),
        embedding_size=options.embedding_size,
        widths=options.widths,
        n_filters=options.n_filters,
    )
    torch.manual_seed(options.seed)
    model = TextCnn(shape, dropout=options.dropout)
    if word_vectors is not None:
        set_word_vectors(model, tokenizer, Path(word_vectors))
    _fit(model, tokenizer, train, validation, options)
    _round_to_half(model)
    prior = train.targets.mean(axis=0)
    config = ClassifierConfig(
        name=options.name,
        prior=tuple((prior / prior.sum()).round(6).tolist()),
        max_pieces=options.max_pieces,
        shape=shape.model_dump(mode="json"),
    )
    raw = EmotionClassifier(model, tokenizer, config)
    logits, is_known = raw.logits(validation.texts)
    temperature = fit_temperature(logits[is_known], validation.classes[is_known])
    classifier = EmotionClassifier(model, tokenizer, config.model_copy(update={"temperature": temperature}))
    classifier.save(output_dir)
    return evaluate(classifier, validation)


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int) -> Tokenizer:
    """Train a byte-pair tokenizer: lower case, width-folded (NFKC), each Han character by itself.

    Args:
        texts: what it learns its pieces from.
        vocabulary_size: pieces, at most; piece 0 is padding, piece 1 what it never saw.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(handle_chinese_chars=True, lowercase=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[PADDING, UNKNOWN],
        limit_alphabet=max(50, vocabulary_size // 2),
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def set_word_vectors(model: TextCnn, tokenizer: Tokenizer, path: Path) -> int:
    """Set the embeddings of pieces that are whole words to the vectors of a file.

    Returns:
        How many pieces got one.

    Raises:
        InputError: no such file, not of numbers, or of another size than the embeddings.
    """
    if not path.is_file():
        raise InputError("no such file", where=path)
    pieces, size = tokenizer.get_vocab(), model.shape.embedding_size
    n_set = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file, torch.no_grad():
            for line, text in enumerate(file, start=1):
                word, *numbers = text.split()
                if line == 1 and len(numbers) == 1:  # word2vec's header: how many, and how long
                    continue
                if len(numbers) != size:
                    raise InputError(f"{len(numbers)} numbers, not {size}", where=f"{path}:{line}")
                piece = pieces.get(word + WORD_END, pieces.get(word))
                if piece is not None:
                    model.embedding.weight[piece] = torch.tensor([float(v) for v in numbers])
                    n_set += 1
    except (ValueError, EOFError, OSError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"not word vectors ({e})", where=path, fix="word v1 v2 ... a line, as word2vec writes") from e
    _log.info("%d of %d pieces start from word vectors", n_set, len(pieces))
    return n_set


class _EncodedTexts(torch.utils.data.Dataset[dict[str, Any]]):
    """Piece numbers and targets of texts; texts without any piece are left out."""

    def __init__(self, texts: LabelledTexts, tokenizer: Tokenizer, *, max_pieces: int, smoothing: float = 0.0) -> None:
        ids = encode(tokenizer, texts.texts, max_pieces=max_pieces)
        kept = [k for k, pieces in enumerate(ids) if pieces]
        self.ids = [ids[k] for k in kept]
        targets = texts.targets[kept]
        self.targets = ((1 - smoothing) * targets + smoothing / targets.shape[1]).astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, k: int) -> dict[str, Any]:
        return {"ids": self.ids[k], "target": self.targets[k]}


def _collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {**pad([r["ids"] for r in rows]), "labels": torch.from_numpy(np.stack([r["target"] for r in rows]))}


def _fit(
    model: TextCnn, tokenizer: Tokenizer, train: LabelledTexts, validation: LabelledTexts, options: TrainOptions
) -> None:
    """Train in place; the epoch with the best macro-F1 on the validation texts is kept."""
    from transformers import Trainer, TrainingArguments

    encoded = _EncodedTexts(train, tokenizer, max_pieces=options.max_pieces, smoothing=options.label_smoothing)
    held_out = _EncodedTexts(validation, tokenizer, max_pieces=options.max_pieces)

    def measure(output: Any) -> dict[str, float]:
        logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
        return {"macro_f1": macro_f1(logits.argmax(axis=1), output.label_ids.argmax(axis=1))}

    with tempfile.TemporaryDirectory(prefix="pege-emotion-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=options.n_epochs,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=512,
            learning_rate=options.learning_rate,
            weight_decay=0.01,
            lr_scheduler_type="linear",
            warmup_steps=0.05,
            seed=options.seed,
            data_seed=options.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="macro_f1",
            greater_is_better=True,
            logging_strategy="epoch",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=not sys.stderr.isatty(),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=encoded,
            eval_dataset=held_out,
            data_collator=_collate,
            compute_metrics=measure,
        )
        trainer.train()
        for row in trainer.state.log_history:
            if "eval_macro_f1" in row:
                _log.info("epoch %d: macro-F1 %.4f on validation", round(row["epoch"]), row["eval_macro_f1"])
    model.cpu()


def _round_to_half(model: TextCnn) -> None:
    """Round the weights to the 16 bits that are saved, so that what is measured is what is loaded."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
