"""Rules for names of persons, institutions and addresses in English chat, where a recogniser trained on news is weak.

Chat drops capitals ("im jessica"), so the rules go by what stands before a name, by a list of given names, and by the
words that institutions and streets end with. What a statistical recogniser found comes in as evidence.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Sequence

#: kind (person, institution, address, place), start, stop; ``tagged`` spans have the recogniser's own labels
Span = tuple[str, int, int]

_CAP = r"[A-Z][a-z]*(?:['’-]?[A-Z]?[a-z]+)+"  # Anna, O'Brien, McCall, Anne-Marie
_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")


def english_names(text: str, tagged: Sequence[Span] = ()) -> list[Span]:
    """Find names of persons, institutions and addresses.

    Args:
        text: an utterance, in any case.
        tagged: spans that a recogniser found, with its labels as spaCy names them (PERSON, ORG, FAC, GPE, LOC, NORP).

    Returns:
        Spans of kind person, institution, address or place; they may overlap.
    """
    if _is_shouted(text):  # capitals say nothing here
        text, tagged = text.lower(), ()
    labels = {"GPE": "place", "LOC": "place", "FAC": "place"}
    places = [(labels[label], start, stop) for label, start, stop in tagged if label in labels]
    return [*_addresses(text), *_institutions(text, tagged), *_persons(text, tagged), *places]


def heeds_tags(text: str) -> bool:
    """Whether spans of a recogniser can change the persons, institutions and addresses that `english_names` finds.

    Args:
        text: an utterance, in any case.

    Returns:
        Where it is false, they add places at most, and the recogniser, the dear part, need not be asked.
    """
    if _is_shouted(text):
        return False
    capitals = [w for w in _WORD.findall(text) if w[0].isupper()]
    if " & " in text or any(_is_ambiguous(w) or w.lower() in _names()["pinyin_surnames"] for w in capitals):
        return True
    openings = (found[1] for pattern in _OPENINGS for found in pattern.finditer(text))
    return any(name[0].isupper() and not _is_given(name.split()[0]) for name in openings)


def _is_shouted(text: str) -> bool:
    words = _WORD.findall(text)
    return len(words) > 4 and sum(w[0].isupper() for w in words) >= 0.8 * len(words)


@functools.cache
def _names() -> dict[str, frozenset[str]]:
    source = importlib.resources.files("pege") / "assets" / "corpus" / "personal.names.json"
    lists: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))
    return {name: frozenset(words.split()) for name, words in lists.items()}


def _is_given(word: str) -> bool:
    return word.lower().replace("’", "'").removesuffix("'s") in _names()["given"]


def _is_ambiguous(word: str) -> bool:  # a given name that is a word too: Will, Hope
    return word.lower().replace("’", "'").removesuffix("'s") in _names()["ambiguous"]


def _is_no_name(word: str) -> bool:
    lower = word.lower().replace("’", "'")
    return lower in _names()["not_names"] or bool(re.search(r"(?:ing|ese|ish|ed)$", lower))


# ---- persons

_FULL = rf"({_CAP}(?: {_CAP}){{0,2}}|[a-z]+(?:['’-][a-z]+)?)"
_NAMED = re.compile(rf"\b(?i:(?:my|his|her|their) (?:\w+ )?names?(?:['’]s| is| was|:)) +{_FULL}")
_CALLED = re.compile(
    r"\b(?i:i['’]?m|i am|this is|it['’]?s me,?|calls? (?:me|him|her)|called|named|name[sd]? (?:our|my|the) \w+|"
    r"my names|go(?:es)? by|known as|hi|hey|hello|dear|thanks|thank you|love you|bye|good ?night|sorry|"
    r"(?:talk|chatt|speak|meet)ing (?:to|with) you|nice to meet you|met|told|asked|miss|dating|dated|married|kissed|"
    rf"texted|love|hate),? +{_FULL}"
)
_RELATION = (
    r"(?:friend|bestie|bf|gf|boyfriend|girlfriend|husband|wife|ex|brother|bro|sister|sis|son|daughter|kid|cousin|niece|"
    r"nephew|boss|manager|coworker|colleague|roommate|landlord|neighbou?r|teacher|therapist|stepdad|stepmom|crush|fiance"
    r"|fiancee|partner|bully|tutor|coach|baby|dad|mom|mum)"
)
_RELATED = re.compile(rf"\b(?i:my|his|her|our|their) (?:\w+ ){{0,2}}(?i:{_RELATION})(?:['’]s name is)?,? {_FULL}")
_HERE = re.compile(rf"(?:^|[,.!?] ){_FULL} here\b")
_OPENINGS = (_CALLED, _RELATED, _HERE)  # a name may follow; for a word with a capital the recogniser decides
_TITLE = re.compile(
    r"\b(?:(?i:(mr|mrs)|ms|dr|prof|rev|sgt)\.?|(?i:miss|mx|doctor|professor|coach|pastor|father|sister|brother|reverend|"
    r"officer|nurse|aunt|auntie|aunty|uncle|grandma|grandpa|granny|nana|sir|principal|judge|detective|sergeant|captain|"
    rf"bishop)) {_FULL}"
    rf"|\b(?:(Mr|Mrs)|Ms|Dr|Prof)\.({_CAP})"  # Mrs.Vale
)
#: what is named or called, where it is no person
_THINGS = re.compile(
    r"\b(?:dog|cat|puppy|kitten|hamster|pet|fish|bird|parrot|horse|rabbit|bunny|car|film|movie|song|album|book|game|show|"
    r"band|series|app|website|place|channel)\b[^.!?]{0,20}$",
    re.IGNORECASE,
)
_CITY_FIRST = ("san", "santa", "los", "las", "saint", "st", "new", "el", "port", "lake", "mount")
_SURNAME = re.compile(rf" (?:{_CAP})")


def _persons(text: str, tagged: Sequence[Span]) -> Iterator[Span]:
    people = [(start, stop) for label, start, stop in tagged if label in ("PERSON", "ORG")]
    for found in _NAMED.finditer(text):
        if not _is_no_name(found[1].split()[0]):
            yield "person", *found.span(1)
    for pattern in _OPENINGS:
        for found in pattern.finditer(text):
            if _is_name_there(found, people) and not _THINGS.search(text[: found.start(1)]):
                yield "person", *found.span(1)
    for found in _TITLE.finditer(text):
        named = (found[2] or found[4]).split()[0]
        if _is_titled(named, any_case=found[1] is not None):
            yield "person", *found.span()
    yield from _listed_persons(text, people)


def _is_name_there(found: re.Match[str], people: Sequence[tuple[int, int]]) -> bool:
    first = found[1].split()[0]
    if _is_given(first):
        return True
    if not first[0].isupper() or _is_no_name(first):
        return False
    return _is_ambiguous(first) or " " in found[1] or any(a <= found.start(1) < b for a, b in people)


def _is_titled(word: str, *, any_case: bool) -> bool:
    if word[0].isupper():
        return not _is_no_name(word) or _is_given(word)
    return _is_given(word) or (any_case and not _is_no_name(word))


def _listed_persons(text: str, people: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """Given names by the list; the ambiguous ones with a capital where the recogniser agrees."""
    before = ""
    for found in _WORD.finditer(text):
        word = found.group()
        tagged = [stop for start, stop in people if start <= found.start() < stop]
        known = _is_given(word) or (word[0].isupper() and _is_ambiguous(word) and bool(tagged))
        if not known and word.lower() in _names()["pinyin_surnames"] and word[0].isupper():
            known = bool(tagged) and bool(_SURNAME.match(text, found.end()))
        if known and before not in _CITY_FIRST:
            surname = _SURNAME.match(text, found.end())
            follows = surname is not None and not _is_no_name(surname.group().strip())
            yield "person", found.start(), surname.end() if surname and follows else found.end()
        before = word.lower()


# ---- institutions

_HEAD = (
    r"(?:University|College|Academy|(?:Junior |Senior )?High(?: School)?|School|Elementary|Institute|Polytechnic|"
    r"(?:Middle|Elementary|Primary|Secondary|Grammar|Prep|Charter|Nursery|Public|Catholic|Community|Boarding|Medical|Law)"
    r" (?:School|College)|Seminary|Hospital|Clinic|(?:Medical|Health|Recovery) Center|Rehab|Hospice|Infirmary|Pharmacy|"
    r"Church|Chapel|Cathedral|Mosque|Temple|Synagogue|Parish|Bank|Credit Union|Insurance|Corp(?:oration)?|Inc|Ltd|LLC|"
    r"LLP|GmbH|Group|Holdings|Technologies|Solutions|Industries|Logistics|Labs|Laboratories|Consulting|Associates|"
    r"Partners|Foundation|Charity|(?:Nursing|Care|Retirement) Home|Shelter|Daycare|Kindergarten|Preschool|"
    r"(?:Police|Fire) Department|Sheriff's Office|Jail|Prison|Penitentiary|Correctional Facility|Law Firm|"
    r"(?:Football|Soccer|Rugby|Yacht|Country) Club|(?:Hair )?Salon|Barbershop|Bakery|Diner|Bar and Grill|Motors|"
    r"Dealership|& Sons|and Sons|& Co|Steel|Freight|Council|Courthouse)\b"
)
_PROPER = r"(?:St\.? |Saint |[A-Z][\w'’&-]*\.? )"
_CAPITAL_HEAD = re.compile(rf"\b((?:{_PROPER}|& |of |and )*{_PROPER}){_HEAD}\.?")
_OF = re.compile(
    rf"\b(?:[Uu]niversity|[Cc]ollege|[Bb]ank|[Cc]hurch|[Ii]nstitute|[Hh]ospital|[Aa]cademy) of (?:the )?{_CAP}"
)
_LOWER_HEAD = (
    r"(?:university|college|academy|(?:high|middle|elementary|primary|secondary|grammar|prep) school|elementary|"
    r"institute|polytechnic|(?:general |memorial |community |children's )?hospital|infirmary|credit union|"
    r"baptist church|(?:police|fire) department|nursing home|community college)"
)
_LOWER = re.compile(
    r"\b(?:at|from|in|into|attend|attends|attended|joined|near|left|"
    r"(?:go|goes|going|went|transferred|moved|switched|admitted|taken|rushed|accepted) (?:back )?to) "
    rf"((?:[a-z][a-z'’.]+ ){{1,2}}){_LOWER_HEAD}\b",
    re.IGNORECASE,
)
_SAINTLY = re.compile(
    r"\b(?:king'?s|queen'?s|trinity|st\.? [a-z]+'?s) (?:college|hospital|school|church)\b", re.IGNORECASE
)
_EMPLOYER = re.compile(
    r"\b(?i:work(?:s|ed|ing)? (?:at|for)|job (?:at|with)|fired (?:from|by)|interview (?:at|with)|hired by|"
    r"intern(?:ship|ing)? (?:at|with)|laid off (?:from|by)|employed (?:at|by)|redundant at|hours at|manages|"
    rf"volunteer at|studying at|study at) (?:the )?({_CAP}(?: (?:{_CAP}|&|and|of))*)"
)


def _institutions(text: str, tagged: Sequence[Span]) -> Iterator[Span]:
    for pattern in (_CAPITAL_HEAD, _LOWER):
        for found in pattern.finditer(text):
            if not _is_generic(found[1], every=pattern is _CAPITAL_HEAD):
                yield "institution", found.start(1), found.end()
    for pattern in (_OF, _SAINTLY):
        for found in pattern.finditer(text):
            yield "institution", *found.span()
    for found in _EMPLOYER.finditer(text):
        if not _is_no_name(found[1].split()[0]):
            yield "institution", *found.span(1)
    for label, start, stop in tagged:
        name = text[start:stop]
        if label == "ORG" and " & " in name and name[0].isupper():
            yield "institution", start, stop


def _is_generic(words: str, *, every: bool) -> bool:
    """Whether words before a head make a mere kind of institution; one of them is enough where no capital helps."""
    generic = [w.lower() in _names()["generic_heads"] or _is_no_name(w) for w in _WORD.findall(words)]
    while generic and generic[-1]:  # "westbrook community" college
        generic.pop()
    return all(generic) if every else any(generic) or not generic


# ---- addresses

_STREET = (
    r"(?:street|str|st|road|rd|avenue|ave|lane|ln|drive|dr|court|ct|boulevard|blvd|crescent|terrace|sq|parkway|pkwy|"
    r"highway|hwy|circle|cir|gardens|grove|mews|alley|quay|wharf|(?-i:Place|Pl|Way|Close|Square|Hill|Row|Walk))"
)
_COMPASS = r"(?:(?:north|south|east|west|n|s|e|w|ne|nw|se|sw)\.? )"
_NUMBERED = re.compile(
    rf"\b\d{{1,5}}[a-z]?,? {_COMPASS}?((?:[a-z][a-z'’.]*|\d+(?:st|nd|rd|th))(?: [a-z][a-z'’]*){{0,2}}) "
    rf"{_STREET}\b(?!['’])",
    re.IGNORECASE,
)
_NAMED_STREET = re.compile(
    rf"\b((?:St\.? )?{_CAP}(?: (?:{_CAP}|\d+))?(?: Hill)?) "
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Boulevard|Blvd|Crescent|Terrace|Close|Parkway|Square|Highway)\b"
    r"(?!['’])"
)
_NUMBER_STREET = re.compile(
    rf"\b{_COMPASS}?\d{{1,3}}(?:st|nd|rd|th) (?:street|st|avenue|ave|road|blvd)\b", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")
_BY_SHAPE = re.compile(
    r"\b(?i:p\.? ?o\.? box \d+)|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"
    rf"|\b{_CAP}(?: {_CAP})?,? [A-Z]{{2}},? \d{{5}}\b"
    r"|\b(?i:flat|apt\.?|apartment|suite|unit) (?:no\.? |# ?)?\d+[A-Za-z]?(?=,| [A-Z])"
    rf"|\b\d{{1,5}} The {_CAP}"
)


def _addresses(text: str) -> Iterator[Span]:
    has_digit = _DIGIT.search(text) is not None  # most texts have none, and three of the patterns need one
    for found in _NUMBERED.finditer(text) if has_digit else ():
        if not any(w.lower() in _names()["not_streets"] for w in _WORD.findall(found[1])):
            yield "address", *found.span()
    for found in _NAMED_STREET.finditer(text):
        if found[1].lower() not in _names()["not_streets"] and not _is_no_name(found[1].split()[0]):
            yield "address", *found.span()
    for pattern in (_NUMBER_STREET, _BY_SHAPE) if has_digit else ():
        for found in pattern.finditer(text):
            yield "address", *found.span()
