"""Training of a classifier on labelled text: tokenizer or encoder, the Hugging Face Trainer, temperature."""

from __future__ import annotations

import gzip
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pege.emotion.calibration import fit_temperature
from pege.emotion.classifier import ClassifierConfig, NetworkClassifier, Pieces, pad
from pege.emotion.encoder import EncoderTextCnn, encoder_config, read_encoder
from pege.emotion.evaluation import evaluate, macro_f1
from pege.emotion.labelled import LabelledTexts
from pege.emotion.options import TrainOptions
from pege.emotion.textcnn import TextCnn, TextCnnShape
from pege.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)
PADDING, UNKNOWN, WORD_END = "[PAD]", "[UNK]", "</w>"
_WEIGHT_DECAY = 0.01


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
        output_dir: folder for model.safetensors, tokenizer.json and config.json.
        options: the encoder where there is one, sizes, steps and seed.
        word_vectors: what the embeddings of whole words start from (Kim's CNN-non-static), ``word v1 v2 ...`` a line
            as word2vec writes it, plain or .gz, of the size ``options.embedding_size``; other pieces start at random.

    Returns:
        The evaluation on the validation texts, see ``evaluation.evaluate``.

    Raises:
        InputError: the folder cannot be written, the vectors or the encoder cannot be read, or the two sets of texts
            have different labels.
    """
    options = options or TrainOptions()
    if train.labels != validation.labels:
        raise InputError("the validation texts have other labels than the training texts", where="--validation")
    torch.manual_seed(options.seed)
    model, tokenizer = _encoder_model(train, options) if options.encoder else _own_model(train, options)
    if word_vectors is not None:
        if options.encoder or not isinstance(model, TextCnn):
            raise InputError("an encoder has vectors of its own", where="--word_vectors", fix="leave one of them out")
        set_word_vectors(model, tokenizer, Path(word_vectors))
    prior = train.targets.mean(axis=0)
    config = ClassifierConfig(
        format="pege-encoder-textcnn" if isinstance(model, EncoderTextCnn) else "pege-textcnn",
        name=options.name,
        labels=train.labels,
        prior=tuple((prior / prior.sum()).round(6).tolist()),
        max_pieces=options.max_pieces,
        shape=model.shape.model_dump(mode="json"),
        encoder=encoder_config(model.encoder) if isinstance(model, EncoderTextCnn) else {},
    )
    raw = NetworkClassifier(model, tokenizer, config)
    encoded = _EncodedTexts(train, raw.pieces(train.texts), smoothing=options.label_smoothing)
    _fit(model, encoded, _EncodedTexts(validation, raw.pieces(validation.texts)), options)
    _round_to_half(model)
    logits, is_known = raw.logits(validation.texts)
    temperature = fit_temperature(logits[is_known], validation.classes[is_known])
    classifier = NetworkClassifier(model, tokenizer, config.model_copy(update={"temperature": temperature}))
    classifier.save(output_dir)
    return evaluate(classifier, validation)


def _own_model(train: LabelledTexts, options: TrainOptions) -> tuple[TextCnn, Tokenizer]:
    tokenizer = train_tokenizer(train.texts, vocabulary_size=options.vocabulary_size)
    shape = TextCnnShape(
        vocabulary_size=tokenizer.get_vocab_size(),
        embedding_size=options.embedding_size,
        widths=options.widths,
        n_filters=options.n_filters,
        n_classes=len(train.labels),
    )
    return TextCnn(shape, dropout=options.dropout), tokenizer


def _encoder_model(train: LabelledTexts, options: TrainOptions) -> tuple[EncoderTextCnn, Tokenizer]:
    encoder, tokenizer = read_encoder(str(options.encoder))
    n_places = getattr(encoder.config, "max_position_embeddings", None)
    if n_places is not None and n_places < options.max_pieces:
        raise InputError(
            f"the encoder reads {n_places} pieces, not {options.max_pieces}", where="--max_pieces", fix="ask for fewer"
        )
    shape = TextCnnShape(
        vocabulary_size=encoder.config.vocab_size,
        embedding_size=encoder.config.hidden_size,
        widths=options.widths,
        n_filters=options.n_filters,
        n_classes=len(train.labels),
    )
    return EncoderTextCnn(encoder, shape, dropout=options.dropout, is_frozen=options.freeze_encoder), tokenizer


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

    def __init__(self, texts: LabelledTexts, ids: Pieces, *, smoothing: float = 0.0) -> None:
        kept = [k for k, pieces in enumerate(ids) if pieces]
        self.ids = [ids[k] for k in kept]
        targets = texts.targets[kept]
        self.targets = ((1 - smoothing) * targets + smoothing / targets.shape[1]).astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, k: int) -> dict[str, Any]:
        return {"input_ids": self.ids[k], "target": self.targets[k]}


def _collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {**pad([r["input_ids"] for r in rows]), "labels": torch.from_numpy(np.stack([r["target"] for r in rows]))}


def _optimizer(model: TextCnn | EncoderTextCnn, options: TrainOptions) -> torch.optim.Optimizer | None:
    """Give two learning rates where an encoder is trained, else None: the Trainer's own."""
    if not isinstance(model, EncoderTextCnn):
        return None
    inner = {id(p) for p in model.encoder.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in inner], "lr": options.learning_rate},
        {"params": [p for p in model.encoder.parameters() if p.requires_grad], "lr": options.encoder_learning_rate},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=_WEIGHT_DECAY)


def _fit(
    model: TextCnn | EncoderTextCnn, encoded: _EncodedTexts, held_out: _EncodedTexts, options: TrainOptions
) -> None:
    """Train in place; the epoch with the best macro-F1 on the validation texts is kept."""
    from transformers import Trainer, TrainingArguments

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
            weight_decay=_WEIGHT_DECAY,
            lr_scheduler_type="linear",
            warmup_steps=0.05,
            seed=options.seed,
            data_seed=options.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            save_only_model=True,
            # An encoder's time grows with the padding; short batches of one length cost a little randomness.
            train_sampling_strategy="group_by_length" if options.encoder else "random",
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
            optimizers=(_optimizer(model, options), None),
        )
        trainer.train()
        for row in trainer.state.log_history:
            if "eval_macro_f1" in row:
                _log.info("epoch %d: macro-F1 %.4f on validation", round(row["epoch"]), row["eval_macro_f1"])
    model.cpu()


def _round_to_half(model: torch.nn.Module) -> None:
    """Round the weights to the 16 bits that are saved, so that what is measured is what is loaded."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
