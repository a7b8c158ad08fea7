"""Rules for names of persons, institutions and addresses in Chinese chat, over words that jieba cut and tagged.

jieba's tags nr, nt and ns are the recogniser. The rules add what it does not tag (小王, 王老师, a school or a housing
estate with a name of its own) and take back what is no name (宁静, 谢谢您, a city, "an advertising company"): a
person's name has a surname and a character that given names are made of.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Span = tuple[str, int, int]

_HAN = r"[\u4e00-\u9fff]"
_OWN_TAGS = ("nr", "nrt", "nrfg", "ns", "nz", "s")  # tags of words that can name one place or institution
_NOT_TITLED = ("p", "c", "d", "v", "u", "uj", "r", "m", "q")  # 向老师 (to the teacher) is no Mr Xiang


class Word(NamedTuple):
    """One word of a text, with jieba's tag, from ``start`` to ``stop``."""

    text: str
    tag: str
    start: int
    stop: int


def chinese_names(text: str, *, with_places: bool = True) -> list[Span]:
    """Find names of persons, institutions and addresses.

    Args:
        text: an utterance.
        with_places: whether places are asked for; jieba, the dear part, then sees all of the text, else only the
            clauses whose characters could make another kind of name.

    Returns:
        Spans ``(kind, start, stop)`` of kind person, institution, address or place; they may overlap.
    """
    possible = [(0, len(text))] if with_places else [m.span() for m in _possible().finditer(text)]
    if not possible:
        return []
    words = _cut(text, possible)
    places = [("place", w.start, w.stop) for w in words if w.tag == "ns"] if with_places else []
    found = [*_addresses(text, words), *_institutions(text, words), *_persons(text, words), *places]
    public = [m.span() for m in _public().finditer(text)]
    return [span for span in found if not any(start <= span[1] < stop for start, stop in public)]


@functools.cache
def _public() -> re.Pattern[str]:
    """Titles of works, and names that tell nothing of who says them: 《风雨哈佛路》, 诸葛亮, 哈佛大学."""
    return re.compile(f"《[^《》]{{1,40}}》|{'|'.join(sorted(_lists().public, reverse=True))}")


@functools.cache
def _possible() -> re.Pattern[str]:
    """What every person, institution or address has some of; the rules below decide."""
    lists = _lists()
    given = "".join(sorted(lists.given))
    return re.compile(
        rf"{lists.surname}{_HAN}?[{given}]|[小老][{lists.surnames}]|阿{_HAN}|{'|'.join(sorted(lists.transliterated))}"
        rf"|{_person_patterns()[0].pattern}|{_NAMED_BY.pattern}|{_HEAD_WORDS}|{_STREET_ALONE.pattern}|{_ESTATE.pattern}"
        rf"|[道里弄]\d|{_BUILDING.pattern}|[镇乡县区]{_HAN}{{2,4}}(?:村|屯|庄|镇)"
    )


_CLAUSE = re.compile(r"[\u4e00-\u9fd5A-Za-z0-9+#&._]+")  # jieba cuts each by itself


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> list[Word]:
    """Cut a text into words, in the clauses that some span touches; what lies between is one word without a tag."""
    found: list[Word] = []
    done = 0
    for clause in _CLAUSE.finditer(text):
        if not any(a < clause.end() and clause.start() < b for a, b in spans):
            continue
        if done < clause.start():
            found.append(Word(text[done : clause.start()], "x", done, clause.start()))
        done = clause.start()
        for piece in _cutter()(clause.group()):
            found.append(Word(piece.word, piece.flag, done, done + len(piece.word)))
            done += len(piece.word)
    return found


@functools.cache
def _cutter() -> Any:
    import jieba
    import jieba.posseg

    jieba.setLogLevel(logging.WARNING)
    return jieba.posseg.lcut


@dataclass(frozen=True)
class _Lists:
    """Word lists of the asset; single characters where the name says so."""

    surnames: str  # characters
    surname: str  # a pattern: one character, or two
    given: frozenset[str]  # characters that given names are made of
    never_given: frozenset[str]  # characters that no given name has
    common: frozenset[str]  # words that look like a name
    transliterated: frozenset[str]
    modifiers: frozenset[str]  # words that make a kind of institution
    cities: frozenset[str]
    not_streets: frozenset[str]
    public: frozenset[str]  # known to everybody


@functools.cache
def _lists() -> _Lists:
    source = importlib.resources.files("pege") / "assets" / "corpus" / "personal.names.json"
    lists: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))
    words = {name: frozenset(text.split()) for name, text in lists.items()}
    return _Lists(
        surnames=lists["surnames"],
        surname=f"(?:{'|'.join(lists['compound_surnames'].split())}|[{lists['surnames']}])",
        given=frozenset(lists["given_zh"]),
        never_given=frozenset(lists["never_given_zh"]),
        common=words["common_zh"],
        transliterated=words["transliterated_zh"],
        modifiers=words["modifiers_zh"],
        cities=words["cities_zh"],
        not_streets=words["not_streets_zh"],
        public=words["public_zh"],
    )


# ---- persons

_TITLES = (
    "(?:老师|医生|大夫|女士|先生|小姐|太太|夫人|阿姨|叔叔|伯伯|大爷|大妈|奶奶|爷爷|婶|总监|总|经理|主任|教授|同学|师傅|护士|警官|"
    "律师|校长|老板|局长|处长|科长|主管|院长|书记|厂长|组长|队长|会计|教练|导师|咨询师|博士|哥|姐|姨|叔|嫂)"
)
_NOT_FAMILIAR = frozenset("姨姐哥妈婆公妹弟伯爸嬷里拉富根门胶斗飘司波尔迪")  # 阿姨, 阿里: no nicknames
_NAMED_BY = re.compile(
    "(?:我叫|[他她]叫|儿子叫|女儿叫|名叫|叫做|名字(?:叫|是)|姓名[:：是]|叫我|本名|我是)"
    rf"({_HAN}{{2,4}}|[A-Z][a-z]+(?: [A-Z][a-z]+)?)"
)
_ENDS_NAME = "了吗呢吧啊呀哦的地得着过是在有不很都也就还又才没别让把被给对说想要去来做干"
_FOLLOWS = r"(?=[，。！？,.!?\s跟和对说也又都在是今昨请借给把被就的了来去还有]|$)"


def _persons(text: str, words: Sequence[Word]) -> Iterator[Span]:
    titled, compound = _person_patterns()
    tags = {w.start: w.tag for w in words}
    for word in words:
        if (word.tag.startswith("nr") and _is_name(word.text)) or word.text in _lists().transliterated:
            yield "person", word.start, word.stop
    for first, second in itertools.pairwise(words):  # a surname that jieba cut off: 吴/nr 浩然/a
        is_surname = first.tag.startswith("nr") and first.text in _lists().surnames
        if is_surname and len(second.text) == 2 and _is_name(first.text + second.text):
            yield "person", first.start, second.stop
    for found in titled.finditer(text):
        is_own = tags.get(found.start(), "p") not in _NOT_TITLED and found.group()[:2] not in _lists().common
        if is_own and found.group() not in _lists().common:
            yield "person", *found.span()
    for found in compound.finditer(text):
        if found.start() in tags and _is_name(found.group()):
            yield "person", *found.span()
    yield from _introduced(text)


@functools.cache
def _person_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    lists = _lists()
    titled = re.compile(
        rf"{lists.surname}(?:{_HAN}{{1,2}})?(?:老师|医生|女士|先生|阿姨|教授|经理|主任)"
        rf"|{lists.surname}{_TITLES}(?![人程作会体是共])"
        rf"|[小老][{lists.surnames}]{_FOLLOWS}"
    )
    doubles = lists.surname.removeprefix("(?:").rpartition("|")[0]
    return titled, re.compile(rf"(?:{doubles}){_HAN}{{1,2}}")


def _introduced(text: str) -> Iterator[Span]:
    """What 我叫, 名字是, 我是 introduce, where it has the look of a name."""
    for found in _NAMED_BY.finditer(text):
        start, name = found.start(1), found[1]
        if name.isascii():
            yield "person", *found.span(1)
            continue
        name = name[: next((i for i, c in enumerate(name) if c in _ENDS_NAME), len(name))]
        is_nickname = bool(re.fullmatch(f"[阿小老]{_HAN}", name)) and name[-1] not in _NOT_FAMILIAR
        if (is_nickname and name not in _lists().common) or _is_name(name[:3]) or _is_name(name):
            yield "person", start, start + len(name)


def _is_name(name: str) -> bool:
    """Whether it is a surname with one or two characters, or 小, 老, 阿 with one, that could be a person's name."""
    lists = _lists()
    if name in lists.common:
        return False
    if len(name) == 2 and name[0] in "小老阿":
        return name[1] in lists.surnames if name[0] != "阿" else name[1] not in _NOT_FAMILIAR
    found = re.fullmatch(rf"{lists.surname}({_HAN}{{1,2}})", name)
    return found is not None and lists.never_given.isdisjoint(found[1]) and not lists.given.isdisjoint(found[1])


# ---- institutions

_HEAD_WORDS = (
    "大学|学院|中学|高中|初中|小学|幼儿园|医院|诊所|卫生院|公司|集团|银行|证券|保险|派出所|监狱|养老院|福利院|事务所|厂|传媒|科技|"
    "培训班|培训学校|职校|技校|研究所|研究院|党校|教会|教堂|敬老院|孤儿院|律所|支行|分局|公安局|法院|居委会|工作室"
)
_HEAD = re.compile(rf"(?:{_HEAD_WORDS})$")
#: heads before which any word that is no modifier is a name; before the others it must be tagged as one
_STRICT = re.compile("(?:中学|小学|幼儿园|有限公司|集团|事务所|.厂|派出所|监狱|养老院|福利院)$")
_ORDINAL = re.compile(r"第[一二三四五六七八九十\d]+")
_KINDS_OF_ANYWHERE = ("公司", "厂", "医院", "幼儿园", "小学", "中学", "高中", "初中", "大学", "银行", "法院", "工作室")


#: 在过程中学会, 大学习: the head is a piece of other words
_NO_HEAD = re.compile("[习会到着得过了做问以校者]|生(?!活)")


def _institutions(text: str, words: Sequence[Word]) -> Iterator[Span]:
    for i, word in enumerate(words):
        head = _HEAD.search(word.text)
        if head is None or (word.text.endswith("学") and _NO_HEAD.match(text, word.stop)):
            continue
        rest = word.text[: head.start()]
        is_own = len(rest) > 1 and rest not in _lists().modifiers and not _is_city(rest)
        first = _name_start(words, i)
        if first is None and is_own and word.tag in ("nt", *_OWN_TAGS):  # one word: 阳光养老院/nr, 哈佛大学/nt
            first = i
        if first is not None:
            yield "institution", words[first].start, word.stop


def _name_start(words: Sequence[Word], head: int) -> int | None:
    """Index of the first word of an institution's own name before its head; None where it is a mere kind."""
    first, is_ordinal = head, False
    for i in range(head - 1, max(head - 6, -1), -1):
        word = words[i]
        if _ORDINAL.fullmatch(word.text) or word.text in _lists().modifiers or _HEAD.search(word.text):
            first, is_ordinal = i, is_ordinal or word.text.startswith("第")
            continue
        if word.tag in _OWN_TAGS and len(word.text) > 1:
            is_anywhere = words[head].text.endswith(_KINDS_OF_ANYWHERE) and first == head
            return first if is_ordinal else None if _is_city(word.text) and is_anywhere else i
        is_named = _STRICT.search(words[head].text) is not None or first < head
        if is_named and len(word.text) == 2 and word.tag in ("n", "nz", "l", "nrt"):
            return i
        before = words[i - 1] if i else None
        if is_named and before and _is_piece(word) and _is_piece(before):  # 远/a 帆/n 科技
            return i - 1
        break
    return first if is_ordinal else None


def _is_piece(word: Word) -> bool:
    return len(word.text) == 1 and word.tag in ("a", "ag", "n", "ng", "g", "j", "nr", "nz", "vg", "ns")


def _is_city(name: str) -> bool:
    return name.removesuffix("市").removesuffix("省") in _lists().cities


# ---- addresses

_NUMBERED = re.compile(rf"({_HAN}{{1,6}}?(?:路|街|大道|巷|胡同|弄|道|里))\d{{1,5}}(?:号|弄)")
_BUILDING = re.compile(
    r"\d{1,3}(?:栋|幢|号楼)(?:\d{1,2}单元)?(?:\d{3,4}室?)?|[A-Z]座\d{3,4}|\d{1,2}单元\d{3,4}|(?<!\d)\d{3,4}室"
)
_VILLAGE = re.compile(rf"{_HAN}{{2,3}}[镇乡县区]{_HAN}{{2,4}}(?:村|街道|屯|庄|镇)")
_STREET = re.compile("(?:路|街|大道|巷|胡同|街道)$")
_WAY_OF_LIFE = re.compile("(?:之|道|心|思|活)路$")
_STREET_ALONE = re.compile("[东西南北中]?(?:路|街|大道|巷|胡同|街道)")
_ESTATE = re.compile("小区|花园|公寓|名苑|花苑|新村|家园|大厦|工业园|别墅")


def _addresses(text: str, words: Sequence[Word]) -> Iterator[Span]:
    starts = {w.start for w in words}
    for pattern in (_NUMBERED, _BUILDING):
        for found in pattern.finditer(text):
            yield "address", *found.span()
    for found in _VILLAGE.finditer(text):
        if found.start() in starts:
            yield "address", *found.span()
    for i, word in enumerate(words):
        is_street = _STREET.search(word.text) is not None and len(word.text) > 2 and word.tag in _OWN_TAGS
        if is_street and word.text not in _lists().not_streets and not _WAY_OF_LIFE.search(word.text):
            yield "address", word.start, word.stop
        first = _estate_start(words, i)
        if first is not None and (_STREET_ALONE.fullmatch(word.text) or _ESTATE.fullmatch(word.text)):
            yield "address", words[first].start, word.stop


def _estate_start(words: Sequence[Word], head: int) -> int | None:
    """Index of the word that names a street or an estate, before its head (里 and 苑 may stand between)."""
    first = head - 2 if head > 1 and words[head - 1].text in ("里", "苑", "园", "湾") else head - 1
    if first < 0 or words[first].tag not in _OWN_TAGS or len(words[first].text) < 2:
        return None
    return None if _is_city(words[first].text) else first
