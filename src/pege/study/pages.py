"""What the pages show: views of items for the templates, and the pages' own words."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pege.dialog import make_dialog
from pege.study.design import Design, Metric, Practice, PracticeItem, Words, own_practice, practice_metrics
from pege.study.items import Item
from pege.study.rating import Asked, Assignment, questions_of
from pege.web import page_templates, page_words

PAGES = Path(str(importlib.resources.files("pege"))) / "assets" / "pages" / "study"
_ASSETS = Path(str(importlib.resources.files("pege"))) / "assets" / "study"


def words(language: str) -> dict[str, str]:
    """The pages' own words in a language."""
    return page_words(_ASSETS / "words.yaml", language)


@functools.cache
def _templates() -> Any:
    return page_templates(PAGES)


def render(page: str, design: Design, language: str, **values: Any) -> str:
    """Render a page; everything put in is escaped."""
    shown = {"w": words(language), "language": language, "title": design.title.of(language), "contact": design.contact}
    return str(_templates().get_template(f"{page}.html.j2").render(**shown, **values))


def field_name(asked: Asked) -> str:
    """Name of a question's form field: ``a:coherence:3``."""
    return f"a:{asked[0]}:{asked[1]}"


def read_fields(form: Mapping[str, str]) -> dict[Asked, str]:
    """The answers in a form; fields that are no question of any kind are left aside."""
    found: dict[Asked, str] = {}
    for name, value in form.items():
        prefix, _, rest = name.partition(":")
        metric, _, place = rest.partition(":")
        if prefix == "a" and place.isascii() and place.isdigit() and len(place) < 6:
            found[(metric, int(place))] = value
    return found


# ---- views


def view_item(
    design: Design, found: Assignment, language: str, *, missing: list[Asked] | None = None
) -> dict[str, Any]:
    """What the template of a rating page shows of an item."""
    item, w = found.item, words(language)
    missing = missing or []
    asked = questions_of(design, item)

    def questions(place: int) -> list[dict[str, Any]]:
        return [
            _question(design, q, values, language, found.answers.get(q), is_missing=q in missing)
            for q, values in asked.items()
            if q[1] == place
        ]

    dialogs: list[tuple[str, list[tuple[str, str]]]]
    dialogs = [(d.language, [(m.role, m.content) for m in d.messages]) for d in item.dialogs]
    dialogs = dialogs or [(language, _check_lines(design, item, w))]
    if found.is_flipped:
        dialogs.reverse()
    whole = questions(0)
    if item.kind == "pair" or not design.metrics:
        names = {"left": w["first"], "right": w["second"], "tie": w["tie"]}
        whole = [q | {"options": [o | {"label": names[o["value"]]} for o in q["options"]]} for q in whole]
    return {
        "id": found.id,
        "counter": found.counter,
        "is_pair": len(dialogs) == 2,
        "dialogs": [
            [
                {
                    "role": "user" if role == "user" else "agent",
                    "text": text,
                    "lang": spoken,
                    "questions": questions((k + 1) // 2) if k % 2 and len(dialogs) == 1 else [],
                }
                for k, (role, text) in enumerate(lines)
            ]
            for spoken, lines in dialogs
        ],
        "questions": whole,
        "n_questions": len(asked),
    }


def _question(
    design: Design, asked: Asked, values: tuple[str, ...], language: str, given: str | None, *, is_missing: bool
) -> dict[str, Any]:
    name, place = asked
    w = words(language)
    metric = next((m for m in design.metrics if m.name == name), None)
    if metric is not None:
        text, labels = metric, _labels(metric, language, w)
    else:
        text = next(q for q in (design.comparison.questions if design.comparison else ()) if q.name == name)  # type: ignore[assignment]
        labels = {v: v for v in values}
    is_digits = all(len(v) == 1 and v.isdigit() for v in values)  # else the keys are the places, 1, 2, ...
    depends = [(field_name((n, 0)), str(v)) for n, v in (metric.asked_if.items() if metric else ())]
    return {
        "field": field_name(asked),
        "title": text.title.of(language),
        "question": text.question.of(language),
        "explanation": metric.explanation.of(language) if metric and not place else "",
        "depends": depends[0] if depends else None,
        "is_missing": is_missing,
        "options": [
            {"value": v, "label": labels[v], "key": v if is_digits else str(k + 1),
             "is_given": v == given}
            for k, v in enumerate(values)
        ],
    }  # fmt: skip


def _labels(metric: Metric, language: str, w: Mapping[str, str]) -> dict[str, str]:
    if metric.labels:
        return {str(v): label.of(language) for v, label in zip(metric.values, metric.labels, strict=True)}
    if metric.is_binary:
        return {"0": w["no"], "1": w["yes"]}
    return {str(v): str(v) for v in metric.values}


def _check_lines(design: Design, item: Item, w: Mapping[str, str]) -> list[tuple[str, str]]:
    """An attention check as a dialog: the agent's utterance says what to answer."""
    language = next(k for k in ("en", "zh") if words(k) is w)
    told = []
    for name, value in item.expected.items():
        metric = next((m for m in design.metrics if m.name == name), None)
        if metric is not None:
            told.append(f"{metric.title.of(language)}{w['colon']}{_labels(metric, language, w)[value]}")
        else:
            question = next(q for q in (design.comparison.questions if design.comparison else ()) if q.name == name)
            side = w["first"] if value == "left" else w["second"]
            told.append(f"{question.title.of(language)}{w['colon']}{side}")
    lead = w["check_lead"] + w["semicolon"].join(told) + w["stop"].strip()
    return [("user", w["check_user"]), ("assistant", lead)]


def view_metrics(design: Design, language: str) -> list[dict[str, str]]:
    """What the instructions say of each metric and question."""
    w = words(language)
    found = [
        {"title": m.title.of(language), "question": m.question.of(language), "explanation": m.explanation.of(language),
         "about": w[f"metric_{m.level}"], "only_if": w["only_if"] if m.asked_if else ""}
        for m in design.metrics
    ]  # fmt: skip
    pair = [(q.title, q.question) for q in (design.comparison.questions if design.comparison else ())]
    return found + [
        {"title": title.of(language), "question": question.of(language), "explanation": "", "about": w["metric_pair"],
         "only_if": ""}
        for title, question in pair
    ]  # fmt: skip


def consent_text(design: Design, language: str) -> str:
    """What a rater agrees to."""
    return (design.consent or Words(en=words("en")["consent"], zh=words("zh")["consent"])).of(language)


# ---- practice


def has_practice(design: Design) -> bool:
    """Whether a practice item comes first."""
    return bool(practice_metrics(design))


def practice_design(design: Design) -> Design:
    """The design with the metrics of the practice item alone."""
    return design.model_copy(update={"metrics": practice_metrics(design), "comparison": None})


def practice_item(design: Design, language: str) -> Item:
    """The practice item."""
    given = _practice(design, language)
    dialog = make_dialog(list(given.texts), id="practice", lang=language)
    asks = bool(practice_design(design).metrics_of("utterance"))
    return Item(key="practice", kind="dialog", dialogs=(dialog,), rated=given.places if asks else ())


def practice_feedback(design: Design, language: str, answers: Mapping[Asked, str]) -> list[dict[str, Any]]:
    """The right answers beside the rater's, with the reason."""
    item, ours, w = practice_item(design, language), _practice(design, language).answers, words(language)
    found = []
    for name, place in questions_of(practice_design(design), item):
        metric = next(m for m in design.metrics if m.name == name)
        value, why = ours[name][place]
        labels = _labels(metric, language, w)
        given = answers.get((name, place))
        found.append(
            {
                "title": metric.title.of(language),
                "text": item.dialogs[0].agent_utterances[place - 1] if place else "",
                "given": labels.get(given or "", "–"),
                "ours": labels[str(value)],
                "is_other": given is not None and given != str(value),
                "why": why,
            }
        )
    return found


def _practice(design: Design, language: str) -> PracticeItem:
    practice = design.practice if isinstance(design.practice, Practice) else own_practice()
    found = practice.of(language)
    if found is None:
        raise ValueError("a practice without an item")
    return found
