"""``pege study``: human evaluation on the web."""

from __future__ import annotations

import json as jsonlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from pege.errors import InputError

if TYPE_CHECKING:
    from pege.study.store import Store

log = logging.getLogger(__name__)
app = App(name="study", help="Human evaluation on the web: create, serve, invite, results, agreement.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))]
Days = Annotated[float, Parameter(validator=Number(gt=0, lte=3_650))]
BASE_URL = "http://127.0.0.1:8080"


@app.command
def create(design: Path, /, *, output: Path | None = None) -> None:
    """Make the folder of a study from its design: picks dialogs, makes items, keeps where they come from.

    Args:
        design: a YAML (docs/study.md).
        output: the study's folder; the YAML's name without its suffix unless named.
    """
    from pege.study.folder import create_study

    folder = output or design.with_suffix("")
    study = create_study(design, folder)
    kinds = [i.kind for i in study.items]
    log.info("%s", ", ".join(f"{kinds.count(k)} {w}" for k, w in _KINDS.items() if k in kinds))
    print(folder)


_KINDS = {"dialog": "dialogs to rate", "pair": "pairs to compare", "check": "attention checks"}


@app.command
def serve(
    study: Path,
    /,
    *,
    port: Port = 8080,
    host: str = "127.0.0.1",
    database: str | None = None,
    base_url: str | None = None,
    requests_per_minute: PositiveInt = 600,
) -> None:
    """Serve a study until Ctrl-C, and print the owner's link.

    Args:
        study: its folder.
        port: to listen on.
        host: address to listen on; others than this machine's own only behind a proxy with TLS.
        database: sqlite:///FILE or postgresql://USER@HOST/NAME; a file in the study's folder unless named here or in
            the environment variable PEGE_STUDY_DATABASE.
        base_url: where raters reach the study, e.g. https://study.example.org.
        requests_per_minute: of one rater.
    """
    store = _open(study, database)
    from pege.study.app import make_app
    from pege.web import is_loopback, run_app

    if base_url is None and not is_loopback(host):
        raise InputError(
            f"raters do not reach {host} by a name", where="--base-url", fix="name the address of the study"
        )
    base = _base(base_url or f"http://{f'[{host}]' if ':' in host else host}:{port}")
    site = make_app(store, base_url=base, per_minute=requests_per_minute)

    def begin(_: str) -> None:
        store.keep_base_url(base)
        print(_owner_link(store, base), flush=True)

    run_app(site, host=host, port=port, on_start=begin)


@app.command
def invite(
    study: Path,
    /,
    *,
    raters: PositiveInt,
    days: Days | None = None,
    database: str | None = None,
    base_url: str | None = None,
    json: bool = False,
) -> None:
    """Add raters and print a personal link for each. A link is all that a rater needs: send it to one person.

    Args:
        study: its folder.
        raters: how many.
        days: the links hold so long; the design's link_days unless named.
        database: as for serve.
        base_url: where raters reach the study; as it was served last unless named.
        json: print one JSON object a rater.
    """
    store = _open(study, database)
    from pege.study.raters import Links, invite_raters

    links, base = Links(store), _kept_base(store, base_url)
    for rater in invite_raters(store, raters, days=days):
        _print_link(rater.name, f"{base}/r/{links.rater_token(rater)}", json)


def _print_link(name: str, link: str, json: bool) -> None:
    print(jsonlib.dumps({"rater": name, "link": link}) if json else f"{name}\t{link}")


@app.command
def raters(study: Path, /, *, database: str | None = None, json: bool = False) -> None:
    """List the raters: state, items done, seconds an item, attention checks.

    Args:
        study: its folder.
        database: as for serve.
        json: print one JSON object a rater.
    """
    store = _open(study, database)
    from pege.study.raters import progress_of

    with store.reading() as connection:
        found = progress_of(store, connection)
    for r in found:
        seconds = "-" if r["seconds_per_item"] is None else f"{r['seconds_per_item']:.0f} s"
        text = f"{r['rater']}  {r['state']:<9} {r['n_done']:>5} done  {seconds:>6} an item  "
        print(jsonlib.dumps(r) if json else f"{text}{r['n_checks_passed']}/{r['n_checks']} checks")


@app.command
def manage(
    study: Path,
    rater: str,
    act: Literal["revoke", "renew", "exclude", "include", "delete"],
    /,
    *,
    why: str | None = None,
    days: Days | None = None,
    database: str | None = None,
    base_url: str | None = None,
) -> None:
    """Revoke or renew a rater's link or the owner's, exclude or include a rater's answers, or delete all of their data.

    Args:
        study: its folder.
        rater: a name, e.g. r00001; or "owner", whose links can be revoked and renewed.
        act: what to do.
        why: of an exclusion; it is kept and exported.
        days: a renewed link of a rater holds so long.
        database: as for serve.
        base_url: where raters reach the study; as it was served last unless named.
    """
    if act == "exclude" and not why:
        raise InputError("an exclusion needs a reason", where="--why", fix="e.g. --why 'failed 3 of 4 checks'")
    if rater == "owner" and act not in ("revoke", "renew"):
        raise InputError("the owner rates nothing", where=act, fix="revoke or renew the link, or name a rater")
    store = _open(study, database)
    from pege.study import raters as of

    if rater == "owner":
        of.renew_owner_link(store)  # revoked: pege study serve prints a new one
        if act == "renew":
            print(_owner_link(store, _kept_base(store, base_url)))
    elif act == "renew":
        renewed = of.renew_link(store, rater, days=days)
        _print_link(rater, f"{_kept_base(store, base_url)}/r/{of.Links(store).rater_token(renewed)}", False)
    elif act == "delete":
        print(f"{of.delete_rater(store, rater)} answers deleted")
    elif act == "exclude":
        of.exclude_rater(store, rater, why=why or "")
    else:
        {"revoke": of.revoke_link, "include": of.include_rater}[act](store, rater)


@app.command
def results(
    study: Path,
    /,
    *,
    database: str | None = None,
    output: Path | None = None,
    seed: NonNegativeInt = 0,
    n_resamples: PositiveInt = 9_999,
    json: bool = False,
) -> None:
    """Print the table of majority votes with intervals, tests between systems, agreement, correlation with the scores.

    Args:
        study: its folder.
        database: as for serve.
        output: a folder for results.json and the ratings as CSV, JSONL and Parquet, with their provenance.
        seed: of bootstrap and permutation.
        n_resamples: of both.
        json: print one JSON object.
    """
    store = _open(study, database)
    from pege.study.collect import collect_ratings, provenance, write_exports
    from pege.study.results import study_results
    from pege.study.text import results_text

    with store.reading() as connection:
        rows = collect_ratings(store, connection)
        about = provenance(store, connection, rows)
    if not rows:
        raise InputError("no item is rated yet", where=study, fix="pege study invite STUDY --raters 3")
    dialogs = {i.key: i.dialogs[0] for i in store.items.values() if i.kind == "dialog"}
    found = study_results(store.study.design, rows, dialogs, seed=seed, n_resamples=n_resamples)
    found["provenance"] = about
    if output:
        write_exports(output, store, found, about)
    print(jsonlib.dumps(found, ensure_ascii=False) if json else results_text(store.study.design, found))


@app.command
def agreement(
    ratings: Path,
    /,
    *,
    level: Literal["nominal", "ordinal", "interval", "ratio"] = "nominal",
    seed: NonNegativeInt = 0,
    n_resamples: NonNegativeInt = 1_999,
    json: bool = False,
) -> None:
    """Fleiss' kappa, Krippendorff's alpha and Gwet's AC1 of any CSV of ratings, with bootstrap intervals over items.

    Args:
        ratings: a CSV with the columns item,rater,metric,value; a row a rating.
        level: of measurement, for alpha; the other two take values as labels.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.
        json: print one JSON object.
    """
    from pege.study.agreement import agreement_table, read_judgements
    from pege.study.text import agreement_text

    table = agreement_table(read_judgements(ratings), level=level, seed=seed, n_resamples=n_resamples)
    print(jsonlib.dumps(table, ensure_ascii=False) if json else agreement_text(table))


def _open(study: Path, database: str | None) -> Store:
    from pege.study.folder import load_study
    from pege.web import need_web

    need_web("pege study")
    from pege.study.store import Store

    found = load_study(study, secret=os.environ.get("PEGE_STUDY_SECRET"))
    return Store(found, database or os.environ.get("PEGE_STUDY_DATABASE"))


def _owner_link(store: Store, base: str) -> str:
    from pege.study.raters import Links

    return f"owner: {base}/o/{Links(store).owner_token()}"


def _kept_base(store: Store, named: str | None) -> str:
    """The address that links begin with: named, or of the last `serve`."""
    if named is not None:
        return _base(named)
    if (kept := store.base_url) is None:
        log.warning("the study was not served yet: links begin with %s unless --base-url names another", BASE_URL)
    return kept or BASE_URL


def _base(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or len(url) > 200 or url.rstrip("/") != f"{parts.scheme}://{parts.netloc}" or "@" in url:
        raise InputError(
            f"{url!r} is no address", where="--base-url", fix="e.g. https://study.example.org, without a path"
        )
    return url.rstrip("/")
