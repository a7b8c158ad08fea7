"""Text as people write it to plain forms that a phrase list and a classifier can read."""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata

HAN = "㐀-䶿一-鿿豈-﫿"
_LOOKALIKES = str.maketrans(
    "абвеикмнорстухіјѕԁԛԝɡıαβεικνορτυχ’‘＇`´ʼ",
    "abbeukmhopctyxijsdqwgiabeiknoptux''''''",
)
# A digit or sign stands for a letter only inside a word that has letters too; 1 is an i or an l.
_LEET = str.maketrans("034578@$!|+€", "oeastbasiite")
_LEET_WORD = re.compile(r"(?<![\w@$!|+€*])(?=[^\s]*[a-z])(?=[^\s]*[0134578@$!|+€])[a-z0134578@$!|+€']+(?<![!|+])")
_LETTERS_APART = re.compile(r"(?<![^\W_])(?:[a-z][\s.\-_*·,/|~]{1,3}){3,}[a-z](?![^\W_])")
_DOTTED_WORD = re.compile(r"(?<=[a-z])[.\-_*·|~](?=[a-z])")
_HAN_APART = re.compile(rf"(?<=[{HAN}])[\s.*·_\-|/~+、…^=#&%@]+(?=[{HAN}])")
_REPEATED = re.compile(r"([a-z])\1{2,}")


def plain(text: str) -> str:
    """Give text in one form: NFKC, lower case, simplified characters, straight quotes, single spaces.

    What cannot be seen (zero-width and format characters, accents on Latin letters) is left out; letters of other
    alphabets that look like Latin ones become these where the word has Latin letters too.

    >>> plain("I  w\u200bant to DİE’s")
    "i want to die's"
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    apart = unicodedata.normalize("NFKD", folded)
    seen = "".join(c for c in apart if unicodedata.category(c) not in ("Mn", "Cf", "Me", "Cs"))
    seen = unicodedata.normalize("NFC", seen).translate(_simplified())
    return " ".join(_latin_lookalikes(seen).split())


def forms(text: str) -> list[str]:
    """Give the plain form first, then those in which disguises are taken off: each once.

    Letters set apart (``k i l l``, 自 杀), digits for letters (``k1ll``), letters repeated (``diiie``).
    """
    first = plain(text)
    found = [first]
    joined = _HAN_APART.sub("", _LETTERS_APART.sub(_join_letters, first))
    found += [joined, _DOTTED_WORD.sub("", joined)]
    for i in ("i", "l"):
        found.append(_LEET_WORD.sub(lambda m, i=i: m.group().replace("1", i).translate(_LEET), joined))  # type: ignore[misc]
    found += [_REPEATED.sub(r"\1", f) for f in found] + [_REPEATED.sub(r"\1\1", f) for f in found]
    return list(dict.fromkeys(found))


def _join_letters(match: re.Match[str]) -> str:
    """``k i l l  m e`` to ``kill me``; where no wider gap shows the words, all of it is one."""
    words = re.split(r"\s{2,}|(?<=\w)\s*[/|,]\s*(?=\w)", match.group())
    return " ".join(re.sub(r"[^a-z]", "", w) for w in words)


def _latin_lookalikes(text: str) -> str:
    if text.isascii():
        return text
    words = (w.translate(_LOOKALIKES) if re.search(r"[a-z'’]", w) else w for w in re.split(r"(\s+)", text))
    return "".join(words).translate(str.maketrans("’‘`´ʼ", "'''''"))


@functools.cache
def _simplified() -> dict[int, str]:
    source = importlib.resources.files("pege") / "assets" / "safety" / "traditional.txt"
    lines = source.read_text(encoding="utf-8").splitlines()
    pairs = [pair for line in lines if not line.startswith("#") for pair in line.split()]
    return {ord(pair[0]): pair[1] for pair in pairs}
