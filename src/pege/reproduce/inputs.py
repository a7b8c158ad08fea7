"""What a study needs that none of its steps makes; looked for before hours of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pege.errors import InputError, need_package
from pege.models.causal import BASE, resolve_model
from pege.reproduce.config import Study
from pege.reproduce.plan import corpora_in_use, in_data

_FIX = "docs/reproduce.md says what makes it"


def check_inputs(study: Study, data: Path, *, bases: Sequence[str] = ()) -> None:
    """See that models, judges, lexicons and raw dialogs are there.

    A name of two parts that is no folder may be on the hub, and is not looked up.

    Args:
        study: what is to be run.
        data: where the inputs of corpora and the lexicons lie.
        bases: whose rows; all unless named.

    Raises:
        InputError: the first that is missing.
    """
    from pege.corpus.sources import find_sources  # all of the corpus builder comes with it

    chosen = tuple(bases) or tuple(study.bases)
    for base in chosen:
        for field, model in _models_of(study, base):
            try:
                resolve_model(model)
            except InputError as e:
                raise InputError(f"{model}: {e.what}", where=f"{study.name}: {field}", fix=_FIX) from e
        for field, path in _files_of(study, base, data):
            if not path.exists():
                raise InputError(f"no such file or folder: {path}", where=f"{study.name}: {field}", fix=_FIX)
    for name in corpora_in_use(study, chosen):
        find_sources(
            (in_data(i, data) for i in study.corpora[name].get("input", ())), listing=lambda address: [address]
        )
    preferred = [n for n, row in study.rows.items() if row.prefer is not None and set(study.bases_of(n)) & set(chosen)]
    if preferred:
        need_package("trl", "TRL", extra="prefer", where=f"{study.name}: {preferred[0]}")


def _models_of(study: Study, name: str) -> Iterator[tuple[str, str]]:
    base = study.bases[name]
    judges = (j.removeprefix("relevance:").partition("#")[0] for j in base.judges if j.startswith("relevance:"))
    found = [("model", base.model), ("user", base.user), *(("judges", j) for j in judges)]
    yield from ((f"bases.{name}.{field}", model) for field, model in found if model not in (None, BASE))


def _files_of(study: Study, name: str, data: Path) -> Iterator[tuple[str, Path]]:
    base = study.bases[name]
    if base.classifier not in (None, "default"):
        yield f"bases.{name}.classifier", Path(base.classifier)
    if base.unseen_lexicon is not None:
        yield f"bases.{name}.unseen_lexicon", Path(in_data(base.unseen_lexicon, data))
    yield from ((f"bases.{name}.judges", Path(j.partition(":")[2])) for j in base.judges if j.startswith("empathy:"))
