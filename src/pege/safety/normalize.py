"""Text as people write it to plain forms that a phrase list and a classifier can read."""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import re
import unicodedata
from collections.abc import Container

HAN = "㐀-䶿一-鿿豈-﫿"
_BLANK = "\u2800"  # stands for what shows as a gap and is no space: the braille blank, the fillers of Hangul
_BLANKS = "\u2800\u115f\u1160"
_SPACE = "\t\n\v\f\r\x85"  # control characters that are one
_SPREAD = re.compile(
    "[\ufdfa\ufdfb\u3300-\u3357]"
)  # no words of ours, and 5 to 18 characters each once NFKC reads them
_I_FOR_L = re.compile("(?<=[a-z])I+")  # kiII; in `visible` a dotless ı stands for what is an i or an l
_GAP = re.compile(rf"[\s{_BLANK}]{{2,}}")
_LATIN_NAME = re.compile(
    r"(?:LATIN|REGIONAL INDICATOR|(?:CROSSED )?NEGATIVE (?:SQUARED|CIRCLED) LATIN)\b.* "
    r"LETTER (?:SMALL CAPITAL )?(?:SCRIPT |OPEN )?(?P<letter>[A-Z])(?: WITH .+)?"
)
_LETTER_PAIRS = (  # look alike; read so in a word that has Latin letters too, or no others than these
    "аaбbвbгrеeєeэeзeиnкkқkҝkӄkмmнhоoөoпnрpсcтtуyүyхxчyцuшwщwьbяrіijjѕsһhӏlԁdԛqԝwғf"
    "αaβbγyδdεeηnιiκkμuνvοoπnρpσoςsτtυuχxωw∂dɑaʍmʅlʄfսuհhոnօoքpցg"
    "ᎪaᏴbᏟcᎠdᎬeᎰfᏀgᎻhᎥiᎫjᏦkᏞlᎷmᏁnᎾoᏢpᏒrᎡrᏕsᏚsᎢtᏖtᏬuᏙvᏔwᎳwᎩyᎽyᏃz"
    "ꓮaꓐbꓚcꓓdꓰeꓝfꓖgꓧhꓲiꓙjꓗkꓡlꓟmꓠnꓳoꓑpꓣrꓢsꓔtꓴuꓦvꓪwꓫxꓬyꓜz₭k₮t₱p₦n₳a฿b₵c₴s₩w₤l₲g₥m"
)
_LOOKALIKES = dict(zip(map(ord, _LETTER_PAIRS[::2]), _LETTER_PAIRS[1::2], strict=True))
_OTHER_LETTER = re.compile(rf"[^\W{_LETTER_PAIRS[::2]}]")
_QUOTES = str.maketrans("’‘`´ʼ", "'''''")
_LETTERS_APART = re.compile(r"(?<![^\W_])[a-z](?:[\W_]{1,3}[a-z0-9]){3,}(?![^\W_])")
# Of the marks between Chinese characters those that end or quote a clause stay, unless each character stands alone.
_HAN_APART = re.compile(rf"(?<=[{HAN}])(?:[^\w,;:!?。“”‘’\"'()<>《》〈〉【】「」『』—]|_)+(?=[{HAN}])")
_HAN_ALONE = re.compile(rf"(?<!\w)(?:[{HAN}]\W{{1,3}})+[{HAN}](?!\w)")
# Halves of words of a crisis between which no clause ends: what stands there, marks or letters, is put there to hide.
_HAN_BROKEN = re.compile(
    rf"(?<=自)[^{HAN}]{{1,3}}(?=[杀鲨刹残尽缢虐])|(?<=割)[^{HAN}]{{1,3}}(?=[腕脉])|(?<=遗)[^{HAN}]{{1,3}}(?=书)|"
    rf"(?<=想)[^{HAN}a-z0-9]{{1,3}}(?=死(?:$|\W))|(?<=猥)[^{HAN}]{{1,3}}(?=亵)|(?<=强)[^{HAN}]{{1,3}}(?=奸)"
)
# A digit or sign stands for a letter only inside a word that has letters too; 1, ! and | are an i or an l.
_LEET = str.maketrans("034578@$+€£¥", "oeastbastely")
_I_OR_L = re.compile(r"[1!|]")
_WORD = re.compile(rf"[a-z0-9@$](?:[^\s{HAN}]*[a-z0-9@$€])?")  # with all marks inside it
_MARKS = re.compile(r"(?:[^\w@$!|+€£¥']|_)+")
_MARKS_OF_CLAUSE = re.compile(r"(?:[^\w@$!|+€£¥'*#-]|_)+")
_RUN = re.compile(r"([a-z])\1{2,}")
_REPEATED = re.compile(r"([aiuy])\1+|([a-z])\2{2,}")  # of the letters that English doubles, three or more
_ODD = re.compile(rf"[^a-z']|x|{_RUN.pattern}|([aiuy])\2")
_HIDDEN = re.findall(
    r"\w+",
    """kill kills killed killing die died dies dying dead death suicide suicidal murder murdered rape raped raping
    rapist hang hanging harm self myself yourself cutting abuse abused stab shoot overdose unalive""",
)


def visible(text: str) -> str:
    """Give text as `plain` does, but with its gaps: a line's end, one space, or two of either for a wider gap."""
    folded = unicodedata.normalize("NFKC", _I_FOR_L.sub(_dotless, _SPREAD.sub(" ", text))).casefold()
    apart = unicodedata.normalize("NFKD", folded)
    seen = "".join(map(_visible_character, apart))
    seen = unicodedata.normalize("NFC", seen).translate(_simplified())
    return _latin_lookalikes(_GAP.sub(_narrow, seen)).translate(_QUOTES)


def plain(text: str) -> str:
    """Give text in one form: NFKC, lower case, simplified characters, straight quotes, single spaces.

    What cannot be seen (control, zero-width and format characters, accents on Latin letters) is left out; letters of
    other alphabets and of phonetics that look like Latin ones become these.

    >>> plain("I  w\u200bant to DİE’s")
    "i want to die's"
    """
    return _one_line(visible(text))


def forms(text: str) -> list[str]:
    """Give the plain form, and where it is another the one in which disguises are taken off.

    There letters set apart are joined (``k i l l``, 自 杀), and words written with marks, digits, signs or more letters
    are read (``ki-ll``, ``k1ll``, ``k*ll``, ``diiie``).
    """
    seen = visible(text)
    return list(dict.fromkeys((_one_line(seen), _WORD.sub(_read_word, _joined(seen)))))


def _one_line(seen: str) -> str:
    return " ".join(seen.replace(_BLANK, " ").replace("ı", "i").split())


@functools.lru_cache(maxsize=1 << 14)
def _visible_character(c: str) -> str:
    category = unicodedata.category(c)
    if c in _BLANKS:
        return _BLANK
    if category in ("Mn", "Cf", "Me", "Cs", "Co", "Cn") or (category == "Cc" and c not in _SPACE):
        return ""
    return _latin_letter(c) if category[0] == "L" else c


@functools.lru_cache(maxsize=1 << 14)
def _latin_letter(c: str) -> str:
    """Give the letter that a character is a variant of, by its name: small capitals, hooks, squares, flags' letters."""
    found = None if c.isascii() else _LATIN_NAME.fullmatch(unicodedata.name(c, ""))
    return found["letter"].lower() if found else c


def _dotless(letters: re.Match[str]) -> str:
    return "ı" * len(letters.group())


def _narrow(gap: re.Match[str]) -> str:
    kinds = set(gap.group())
    if kinds == {_BLANK}:
        return _BLANK
    return "\n\n" if "\n" in kinds else "  "


def _joined(seen: str) -> str:
    text = seen.replace(_BLANK, "").replace("ı", "1")
    if not text.isascii():
        text = "".join(map(_latin_letter, text))
        text = _HAN_ALONE.sub(lambda m: re.sub(r"\W", "", m.group()), text)
        text = _HAN_BROKEN.sub("", _HAN_APART.sub("", text))
    return " ".join(_LETTERS_APART.sub(_join_letters, text).split())


def _join_letters(letters: re.Match[str]) -> str:
    """``k i l l  m e`` and ``k.i.l.l m.e`` to ``kill me``; where no other gap shows the words, all of it is one."""
    parts = re.split(r"([\W_]+)", letters.group())
    gaps = parts[1::2]
    has_marks = any(not gap.isspace() for gap in gaps)
    ends_word = [gap.isspace() if has_marks else len(gap) > 1 for gap in gaps]
    if all(ends_word) or not any(ends_word):
        word = "".join(parts[::2])
        return word if len(word) > 4 or _meant(word) else letters.group()  # 4: "plan a, b, c, d"
    return parts[0] + "".join(" " * e + letter for e, letter in zip(ends_word, parts[2::2], strict=True))


def _latin_lookalikes(text: str) -> str:
    if text.isascii():
        return text
    words = re.split(rf"([\s{_BLANK}]+)", text)
    is_latin = (re.search("[a-z]", w) or not _OTHER_LETTER.search(w) for w in words)
    return "".join(w.translate(_LOOKALIKES) if latin else w for w, latin in zip(words, is_latin, strict=True))


def _read_word(match: re.Match[str]) -> str:
    """Give the word of ours that is meant, else the likeliest reading; a word without disguise as it is."""
    word = match.group()
    if len(word) < 3 or not _ODD.search(word) or not re.search("[a-z]", word):
        return word
    parts = _MARKS_OF_CLAUSE.split(word)
    if len(parts) > 1 and (meant := _meant(word)):
        return meant
    return " ".join(_meant(part) or _likeliest(part) for part in parts)


def _meant(word: str) -> str | None:
    if hidden := _hidden_words().get(re.sub("[*#x]", "*", word)):
        return hidden
    readings = _readings(_MARKS.sub("", word))
    known: Container[str] = _known_words()
    if all(part in known and len(part) > 2 for part in _MARKS.split(word)):  # good-bye
        known = _HIDDEN
    shorter = (_REPEATED.sub(to, r) for to in (r"\1\2", r"\1\1\2\2") for r in readings)
    return next((r for r in itertools.chain(readings, shorter) if r in known), None)


def _likeliest(word: str) -> str:
    is_amount = re.fullmatch(r"\d+[a-z]*", word)  # 30mg
    return word if is_amount or not re.search("[a-z]", word) else _RUN.sub(r"\1", _readings(word)[0])


def _readings(word: str) -> list[str]:
    """All of what a word can be; with more than three characters that are an i or an l, all i or all l."""
    word = word.translate(_LEET)
    n = len(_I_OR_L.findall(word))
    found = []
    for chosen in itertools.product("il", repeat=n) if n <= 3 else ("i" * n, "l" * n):
        letters = iter(chosen)
        found.append(_I_OR_L.sub(lambda _, letters=letters: next(letters), word))  # type: ignore[misc]
    return found


@functools.cache
def _hidden_words() -> dict[str, str]:
    """``k*ll`` to ``kill``: each word with any of its inner letters hidden."""
    found: dict[str, str] = {}
    for word in _HIDDEN:
        for hides in itertools.product((False, True), repeat=len(word) - 2):
            inner = ("*" if hide else c for c, hide in zip(word[1:-1], hides, strict=True))
            if any(hides):
                found.setdefault(word[0] + "".join(inner) + word[-1], word)
    return found


@functools.cache
def _known_words() -> frozenset[str]:
    """The words, and parts of words, that the phrases and concepts are made of."""
    folder = importlib.resources.files("pege") / "assets" / "safety"
    lists = (folder / name for name in ("phrases.json", "concepts.json"))
    return frozenset(word for one in lists for word in re.findall("[a-z]{2,}", one.read_text(encoding="utf-8")))


@functools.cache
def _simplified() -> dict[int, str]:
    source = importlib.resources.files("pege") / "assets" / "safety" / "traditional.txt"
    lines = source.read_text(encoding="utf-8").splitlines()
    pairs = [pair for line in lines if not line.startswith("#") for pair in line.split()]
    return {ord(pair[0]): pair[1] for pair in pairs}
