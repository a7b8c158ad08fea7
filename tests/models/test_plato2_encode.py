"""PLATO-2's samples: order, positions, roles and cuts as the original's rules give them by hand."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pege.dialog import Emotion
from pege.errors import InputError
from pege.models.plato2 import Plato2Config, Plato2ForConditionalGeneration
from pege.models.plato2.encode import collate_prompts, collate_samples, encode_sample, text_ids, text_of
from pege.models.prompt import system_line

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
EMOTION = Emotion(negative=0.7, neutral=0.2, positive=0.1)


def word_tokenizer(words, **more):
    """A word a token: unk and pad 0, bos 1, eos 2, mask 3, the words from 4 on."""
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate([*SPECIAL, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]",
        mask_token="[MASK]", **more,
    )  # fmt: skip


TOKENIZER = word_tokenizer([*"abcdefghij"])  # 4 ... 13
CONTEXT = ["a b", "c", "d e f"]


def test_the_order_of_a_sample():
    sample = encode_sample(TOKENIZER, CONTEXT, "g h")
    assert sample.input_ids == [1, 4, 5, 2, 6, 2, 7, 8, 9, 2, 1, 10, 11, 2]
    assert sample.token_type_ids == [0] * 10 + [1] * 4
    assert sample.position_ids == list(range(14))
    assert sample.role_ids == [0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]  # the newest utterance is the other side's
    assert sample.labels == [-100] * 11 + [10, 11, 2]


def test_a_response_to_come_is_its_first_token():
    sample = encode_sample(TOKENIZER, CONTEXT)
    assert sample.input_ids[-2:] == [2, 1]
    assert sample.token_type_ids[-2:] == [0, 1]


def test_relative_positions_count_the_context_backwards_down_to_the_longest_response():
    sample = encode_sample(TOKENIZER, ["a", "b"], "c", positions="relative", max_response=20)
    assert sample.position_ids == [24, 23, 22, 21, 20, 0, 1, 2]


@pytest.mark.parametrize(
    ("max_length", "context", "roles", "n_dropped"),
    [
        (14, [4, 5, 2, 6, 2, 7, 8, 9, 2], [1, 1, 1, 0, 0, 1, 1, 1, 1], 0),
        (13, [6, 2, 7, 8, 9, 2], [0, 0, 1, 1, 1, 1], 1),
        (10, [7, 8, 9, 2], [1] * 4, 2),
        (9, [7, 8, 9, 2], [1] * 4, 2),
        (8, [8, 9, 2], [1] * 3, 2),
        (7, [9, 2], [1] * 2, 2),
    ],
)
def test_a_long_context_loses_its_oldest_utterances_whole_and_the_newest_its_beginning(
    max_length, context, roles, n_dropped
):
    sample = encode_sample(TOKENIZER, CONTEXT, "g h", max_length=max_length)
    assert sample.input_ids == [1, *context, 1, 10, 11, 2]
    assert sample.role_ids == [0, *roles, 0, 0, 0, 0]
    assert sample.n_dropped == n_dropped
    assert len(sample.input_ids) <= max_length


def test_a_long_response_loses_its_end_and_still_stops():
    assert encode_sample(TOKENIZER, ["a"], "c d e f", max_response=4).input_ids[3:] == [1, 6, 7, 2]


def test_the_emotion_stands_ahead_of_the_first_utterance_and_stays_when_utterances_go():
    line = system_line(EMOTION)
    tokenizer = word_tokenizer([*"abcdefgh", *line.split()])
    ids = tokenizer(line, add_special_tokens=False)["input_ids"]
    assert encode_sample(tokenizer, ["a"], "b", emotion=EMOTION).input_ids == [1, *ids, 2, 4, 2, 1, 5, 2]
    short = encode_sample(tokenizer, CONTEXT, emotion=EMOTION, max_length=len(ids) + 7)
    assert short.input_ids == [1, *ids, 2, 7, 8, 9, 2, 1]


def test_as_numbers_it_leaves_the_tokens_alone():
    sample = encode_sample(TOKENIZER, ["a"], emotion=EMOTION, emotion_text=False)
    assert sample.input_ids == [1, 4, 2, 1]
    assert sample.emotion == (0.1, 0.7)


@pytest.mark.parametrize("text", ["[SEP]", "a [SEP] b", "[CLS] a[MASK]", "[MASK]"])
def test_text_never_becomes_a_special_token(text):
    assert not {1, 2, 3} & set(text_ids(TOKENIZER, text))


def test_chinese_is_cut_by_jieba_where_the_tokenizer_was_made_so():
    tokenizer = word_tokenizer(["我", "很", "难过", "dog"], jieba=True)
    ids = text_ids(tokenizer, "我很难过")
    assert ids == (4, 5, 6)
    assert text_of(tokenizer, [*ids, 7, 7]) == "我很难过dog dog"


@pytest.mark.parametrize(("context", "options"), [([], {}), (["a"], {"max_length": 4}), (["a"], {"max_response": 2})])
def test_what_cannot_be_encoded_is_refused(context, options):
    with pytest.raises(InputError):
        encode_sample(TOKENIZER, context, "b", **options)


def test_batches_are_padded_left_for_prompts_and_right_for_training():
    samples = [encode_sample(TOKENIZER, ["a"], "b"), encode_sample(TOKENIZER, ["a b"], "c")]
    right = collate_samples(samples, pad_id=0, roles=True)
    assert right["input_ids"].tolist() == [[1, 4, 2, 1, 5, 2, 0], [1, 4, 5, 2, 1, 6, 2]]
    assert right["attention_mask"].tolist() == [[1] * 6 + [0], [1] * 7]
    assert right["labels"].tolist() == [[-100] * 4 + [5, 2, -100], [-100] * 5 + [6, 2]]
    assert right["role_ids"].tolist()[0] == [0, 1, 1, 0, 0, 0, 0]
    left = collate_prompts([encode_sample(TOKENIZER, [t]) for t in ("a", "a b")], pad_id=0)
    assert left["input_ids"].tolist() == [[0, 1, 4, 2, 1], [1, 4, 5, 2, 1]]
    assert left["attention_mask"].tolist() == [[0, 1, 1, 1, 1], [1] * 5]
    assert left["position_ids"].tolist() == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert left.keys() == {"input_ids", "attention_mask", "position_ids", "token_type_ids"}


def model_of(**more):
    torch.manual_seed(0)
    return Plato2ForConditionalGeneration(Plato2Config.of_size("tiny", vocab_size=14, mask_token_id=3, **more)).eval()


def test_padding_changes_no_logits_of_a_response():
    model = model_of()
    samples = [encode_sample(TOKENIZER, ["a"], "b"), encode_sample(TOKENIZER, CONTEXT, "c d")]
    both = collate_samples(samples, pad_id=0)
    with torch.inference_mode():
        together = model(**{k: v for k, v in both.items() if k != "labels"}).logits
        for k, sample in enumerate(samples):
            alone = collate_samples([sample], pad_id=0)
            n = len(sample.input_ids)
            expected = model(**{k: v for k, v in alone.items() if k != "labels"}).logits[0]
            torch.testing.assert_close(together[k, :n], expected)


def test_the_emotion_embedding_is_added_to_the_context_only():
    model = model_of(emotion_embedding=True)
    sample = encode_sample(TOKENIZER, ["a"], "b", emotion=EMOTION, emotion_text=False)
    batch = collate_samples([sample], pad_id=0)
    names = ("input_ids", "token_type_ids", "position_ids")
    plain = model.model.embeddings(*(batch[n] for n in names), None)
    mixed = model.model.embeddings(*(batch[n] for n in names), None, batch["emotion"])
    rows = model.model.embeddings.emotion_embeddings.weight
    expected = torch.zeros_like(plain)
    expected[0, :3] = 0.1 * rows[0] + 0.7 * rows[1]
    torch.testing.assert_close(mixed - plain, expected)
    assert not torch.equal(model(**batch).logits, model(**{**batch, "emotion": torch.zeros(1, 2)}).logits)


def test_without_it_there_is_no_such_weight():
    model = model_of()
    assert not any("emotion" in n for n, _ in model.named_parameters())
    with pytest.raises(ValueError, match="emotion"):
        model(torch.tensor([[1, 4, 2]]), emotion=torch.zeros(1, 2))
