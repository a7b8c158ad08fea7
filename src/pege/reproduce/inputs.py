"""What a study needs that none of its steps makes; looked for before hours of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pege.errors import InputError
from pege.models.causal import BASE, resolve_model
from pege.reproduce.config import Base, Study
from pege.reproduce.plan import corpora_in_use, in_data

_FIX = "docs/reproduce.md says what makes it"


def check_inputs(study: Study, data: Path, *, bases: Sequence[str] = ()) -> None:
    """See that models, judges, lexicons and raw dialogs are there; names on the hub are not looked up.

    Args:
        study: what is to be run.
        data: where the inputs of corpora and the lexicons lie.
        bases: whose rows; all unless named.

    Raises:
        InputError: the first that is missing.
    """
    chosen = tuple(bases) or tuple(study.bases)
    for name in chosen:
        where = f"{study.name}: bases.{name}"
        _check_models(study.bases[name], where)
        for field, path in _files_of(study.bases[name], data):
            if not path.exists():
                raise InputError(f"no such file or folder: {path}", where=f"{where}.{field}", fix=_FIX)
    for name in corpora_in_use(study, chosen):
        for source in (in_data(i, data) for i in study.corpora[name].get("input", ())):
            if source != "chitchat" and "://" not in source and not Path(source).exists():
                raise InputError(f"no such file: {source}", where=f"{study.name}: corpora.{name}", fix="see --data")


def _check_models(base: Base, where: str) -> None:
    judges = (j.removeprefix("relevance:").partition("#")[0] for j in base.judges if j.startswith("relevance:"))
    for model in (base.model, base.user, *judges):
        if model not in (None, BASE):
            try:
                resolve_model(model)
            except InputError as e:
                raise InputError(f"{model}: {e.what}", where=where, fix=_FIX) from e


def _files_of(base: Base, data: Path) -> Iterator[tuple[str, Path]]:
    if base.classifier not in (None, "default"):
        yield "classifier", Path(base.classifier)
    if base.unseen_lexicon is not None:
        yield "unseen_lexicon", data / base.unseen_lexicon
    yield from (("judges", Path(j.partition(":")[2])) for j in base.judges if j.startswith("empathy:"))
