"""Text to words, English and Chinese (design sec. 7)."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pege.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# Runs of letters and digits with inner apostrophes, straight or curly.
_ENGLISH = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MANY_TEXTS = 2_000  # from here on the tables of `pege.chinese` pay
_TEXTS_AT_ONCE = 20_000
_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿]")


def english_words(text: str) -> list[str]:
    """Words of English text: runs of letters and digits with inner apostrophes, lower-cased.

    >>> english_words("I can't -- it's 2 late!")
    ['i', "can't", "it's", '2', 'late']
    """
    return [w.replace("’", "'") for w in _ENGLISH.findall(text.lower())]


def words_of_texts(texts: Sequence[str], lang: str) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """Give the words of many texts one after the other, and how many each text has, (N,).

    The words are those of the language's segmenter. English is cut in whole columns where it is plain ASCII, Chinese
    where there are many texts (`pege.chinese`).
    """
    import numpy as np
    import pyarrow as pa

    cut = segmenter(lang)
    if lang == "en":
        return _english_columns(pa.array(texts, pa.string()), cut)
    if lang == "zh" and len(texts) >= _MANY_TEXTS:
        return _chinese_columns(texts)
    rows = [cut(t) for t in texts]
    return pa.array([w for row in rows for w in row], pa.string()), np.array([len(r) for r in rows], np.int64)


def _chinese_columns(texts: Sequence[str]) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """Words and numbers of words, some thousand texts at a time, so that arrays stay in the cache."""
    import numpy as np
    import pyarrow as pa

    from pege.chinese import cut_texts

    columns, counts = [], []
    for k in range(0, len(texts), _TEXTS_AT_ONCE):
        part = [t.lower() for t in texts[k : k + _TEXTS_AT_ONCE]]
        codes, starts, stops, owners = cut_texts(part)
        found, places = np.unique(codes, return_inverse=True)
        is_letter = np.array([chr(c).isalnum() for c in found.tolist()], bool)[places]
        n_letters = np.concatenate(([0], np.cumsum(is_letter)))
        kept = n_letters[stops] > n_letters[starts]
        starts, stops = starts[kept], stops[kept]
        n_bytes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)  # in UTF-8
        edges = np.concatenate(([0], np.cumsum(n_bytes)))
        sizes = edges[stops] - edges[starts]
        is_kept = np.zeros(len(codes) + 1, np.int8)  # words do not overlap
        np.add.at(is_kept, starts, 1)
        np.add.at(is_kept, stops, -1)
        is_kept = np.repeat(np.cumsum(is_kept[:-1]) > 0, n_bytes)
        content = np.frombuffer("".join(part).encode(), np.uint8)[is_kept]
        offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
        columns.append(
            pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets.tobytes()), pa.py_buffer(content.tobytes()))
        )
        counts.append(np.bincount(owners[kept], minlength=len(part)))
    return pa.concat_arrays(columns), np.concatenate(counts)


def _english_columns(
    texts: pa.StringArray, cut: Callable[[str], list[str]]
) -> tuple[pa.StringArray, NDArray[np.int64]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.ascii_lower(pc.replace_substring(texts, "’", "'"))
    is_plain = pc.string_is_ascii(plain)
    for pattern in ("[^a-z0-9']+", "''+", "'( |$)", "(^| )'"):  # what is no letter or digit; outer apostrophes
        plain = pc.replace_substring_regex(plain, pattern, " ")
    rest = np.flatnonzero(~is_plain.to_numpy(zero_copy_only=False)).tolist()
    if rest:  # other alphabets: words joined by what none of them holds
        joined = pa.array([" ".join(cut(texts[k].as_py())) for k in rest], pa.string())
        plain = pc.replace_with_mask(plain, pc.invert(is_plain), joined)
    lists = pc.split_pattern(pc.utf8_trim_whitespace(plain), " ")
    words, owners = lists.flatten(), pc.list_parent_indices(lists)
    is_word = pc.greater(pc.binary_length(words), 0)
    n_words = np.bincount(owners.filter(is_word).to_numpy(), minlength=len(texts))
    return words.filter(is_word), n_words


def chinese_words(text: str) -> list[str]:
    """Words of Chinese text by jieba (default mode), lower-cased; pieces without a letter or digit are left out."""
    return [w for w in _jieba_cut()(text.lower()) if any(c.isalnum() for c in w)]


def cut_chinese(text: str) -> list[str]:
    """Cut all of a Chinese text by jieba, nothing left out: words, punctuation, spaces."""
    return _jieba_cut()(text)


@functools.cache
def _jieba_cut() -> Callable[[str], list[str]]:
    """Cut of a tokenizer of our own, with the dictionary that jieba was installed with.

    jieba's global one may have got other words from a program around us, and reads a cache in the folder of temporary
    files that it does not check.
    """
    import jieba

    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    cut: Callable[[str], list[str]] = tokenizer.lcut
    return cut


@functools.cache
def _jieba_name() -> str:
    """Version of the jieba that is installed, and the first 8 hex digits of its dictionary's sha256."""
    import jieba

    with jieba.Tokenizer().get_dict_file() as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"jieba-{importlib.metadata.version('jieba')}-{digest[:8]}"


#: language -> (its name in signatures, segmenter)
SEGMENTERS: dict[str, tuple[Callable[[], str], Callable[[str], list[str]]]] = {
    "en": (lambda: "words-en", english_words),
    "zh": (_jieba_name, chinese_words),
}


def segmenter(lang: str) -> Callable[[str], list[str]]:
    """Segmenter of a language: text -> words.

    Raises:
        InputError: a language without a segmenter.
    """
    return _entry(lang)[1]


def segmenter_name(lang: str) -> str:
    """Name of a language's segmenter, as signatures print it."""
    return _entry(lang)[0]()


def _entry(lang: str) -> tuple[Callable[[], str], Callable[[str], list[str]]]:
    if lang not in SEGMENTERS:
        raise InputError(f"no segmenter for language {lang!r}", fix=did_you_mean(lang, SEGMENTERS))
    return SEGMENTERS[lang]


def guess_language(text: str) -> str:
    """Give ``zh`` where at least one character in five (spaces aside) is a Han character, else ``en``."""
    if text.isascii():
        return "en"
    n_chars = len("".join(text.split()))
    return "zh" if n_chars and len(_HAN.findall(text)) >= 0.2 * n_chars else "en"
