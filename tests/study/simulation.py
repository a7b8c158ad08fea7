"""A whole study rated by simulated raters whose errors are known: a test of the statistics, no human results.

`PYTHONPATH=tests python tests/study/simulation.py docs/results/study-simulation.md` runs it at full size and writes what it found.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import yaml
from servers import served

from browsing import launch
from pege.dialog import make_dialog
from pege.io import write_rows, write_text
from pege.study.collect import collect_ratings
from pege.study.folder import create_study
from pege.study.raters import Links, invite_raters, progress_of
from pege.study.results import study_results
from pege.study.store import Store

# P(yes) of the truth: coherence, informativeness, guidance, empathy given guidance
SYSTEMS = {
    "A": (0.95, 0.90, 0.80, 0.85), "B": (0.90, 0.80, 0.65, 0.60), "C": (0.80, 0.75, 0.50, 0.60),
    "D": (0.70, 0.50, 0.30, 0.40), "E": (0.70, 0.50, 0.30, 0.40),
}  # fmt: skip
ERRORS = (0.04, 0.07, 0.10, 0.12, 0.15, 0.20)  # of a rater: how often an answer is the opposite of the truth
METRICS = ("coherence", "informativeness", "guidance", "empathy")


@dataclass
class World:
    """What is true of each dialog, and what a simulated rater can know: the text."""

    truth: dict[tuple[str, str, int], int] = field(default_factory=dict)  # metric, first agent text, place
    starter: dict[str, tuple[str, str]] = field(default_factory=dict)  # first agent text -> system, starter


def make_world(folder, *, n_dialogs, n_turns, seed):
    """Write self-chats whose truth is drawn by seed."""
    rng, world = np.random.default_rng(seed), World()
    for system, (coherent, informative, guides, empathic) in SYSTEMS.items():
        rows = []
        for k in range(n_dialogs):
            texts = [f"I feel low, day {k}."] + [f"words {rng.integers(10**12)}" for _ in range(2 * n_turns - 1)]
            first = texts[1]
            for place in range(1, n_turns + 1):
                world.truth["coherence", first, place] = int(rng.random() < coherent)
                world.truth["informativeness", first, place] = int(rng.random() < informative)
            world.truth["guidance", first, 0] = int(rng.random() < guides)
            world.truth["empathy", first, 0] = world.truth["guidance", first, 0] * int(rng.random() < empathic)
            world.starter[first] = (system, f"s{k:03d}")
            rows.append(make_dialog(texts, id=f"s{k:03d}", lang="en"))
        write_rows(folder / f"{system}.jsonl", rows)
    design = {
        "title": {"en": "Simulation"}, "systems": {s: f"{s}.jsonl" for s in SYSTEMS}, "n_dialogs": n_dialogs,
        "seed": seed, "check_every": 10,
    }  # fmt: skip
    (folder / "simulation.yaml").write_text(yaml.safe_dump(design))
    return world, create_study(folder / "simulation.yaml", folder / "study")


@dataclass
class Simulated(threading.Thread):
    """A rater who reads the page, knows the truth of what is on it, and errs at a known rate; None answers at random."""

    base: str
    token: str
    world: World
    error: float | None
    seed: int
    n_items: int = 10**9
    n_browser: int = 0
    failure: BaseException | None = None
    n_keys: int = 0

    def __post_init__(self):
        super().__init__()
        self.rng = np.random.default_rng(self.seed)

    __hash__ = threading.Thread.__hash__

    def answers(self, page):
        """Field -> value for all questions of a page."""
        texts = [html.unescape(t) for t in re.findall(r'<p class="text"[^>]*>(.*?)</p>', page)]
        found = {}
        for name in dict.fromkeys(re.findall(r'name="(a:[^"]+)"', page)):
            _, metric, place = name.split(":")
            if self.error is None:
                value = int(self.rng.integers(2))
            elif "Please answer" in texts[1]:
                title = {
                    "coherence": "Coherent",
                    "informativeness": "Informative",
                    "guidance": "Positive emotion guidance",
                }
                said = re.search(rf"{title[metric]}: (Yes|No)", texts[1]) if metric in title else None
                value = int(said is not None and said[1] == "Yes")
            else:
                value = self.world.truth[metric, texts[1], int(place)] ^ int(self.rng.random() < self.error)
            found[name] = str(value)
        return found

    def run(self):
        try:
            with httpx.Client(base_url=self.base, timeout=60) as client:
                self.enter(client)
                for _ in range(self.n_items):
                    page = client.get("/rate").text
                    if "data-rate" not in page:
                        return
                    self.rate(client, page)
        except BaseException as e:
            self.failure = e

    def enter(self, client):
        client.get(f"/r/{self.token}")
        self.csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/consent").text)[1]
        client.post("/consent", data={"csrf": self.csrf, "agree": "yes"})
        client.post("/start", data={"csrf": self.csrf})

    def rate(self, client, page):
        given = self.answers(page)
        path = re.search(r'action="(/item/\d+)"', page)[1]
        counter = int(re.search(r'data-counter="(\d+)"', page)[1])
        names = list(given)
        for k, cut in enumerate((len(names) // 3, len(names))):  # as given, in two steps
            data = {"csrf": self.csrf, "counter": str(counter + k), **{n: given[n] for n in names[:cut]}}
            if given.get("a:guidance:0") == "0":
                data.pop("a:empathy:0", None)  # hidden on the page
            client.post(f"{path}/save", data=data).raise_for_status()
        assert client.post(path, data={"csrf": self.csrf}).status_code == 303

    def browse(self, page):
        """Rate the first items in a real browser, by keyboard alone."""
        page.goto(f"{self.base}/r/{self.token}")
        for n in range(self.n_browser):
            heading = page.get_by_role("heading", name=f"Conversation {n + 1}", exact=True)
            heading.wait_for()
            if n:
                page.locator("#page:focus").wait_for()  # the page is settled
            given = self.answers(page.content())
            if given.get("a:guidance:0") == "0":
                given.pop("a:empathy:0", None)
            for value in given.values():
                page.keyboard.press(value)
                self.n_keys += 1
            assert page.evaluate("document.activeElement.tagName") == "BUTTON"
            page.keyboard.press("Enter")
            page.get_by_role("heading", name=f"Conversation {n + 2}", exact=True).wait_for()


def simulate(folder, *, n_dialogs=50, n_turns=10, n_browser=10, seed=0, n_resamples=1_999):
    """Run a study. Returns what is needed to compare: results, rows, errors of raters, the world, counts."""
    world, study = make_world(folder, n_dialogs=n_dialogs, n_turns=n_turns, seed=seed)
    store, begun = Store(study), time.monotonic()
    with served(study.folder) as server:
        links = Links(store)
        careless, *careful = invite_raters(store, 1 + len(ERRORS))
        people = [
            Simulated(server.base, links.rater_token(r), world, e, 100 * seed + k, n_browser=n_browser if k == 0 else 0)
            for k, (r, e) in enumerate(zip(careful, ERRORS, strict=True))
        ]
        bad = Simulated(server.base, links.rater_token(careless), world, None, 999, n_items=36)
        bad.run()
        assert bad.failure is None
        exclude_as_the_owner(server.base, links.owner_token(), careless.name)
        if n_browser:
            in_browser(people[0])
        [p.start() for p in people]
        [p.join() for p in people]
        assert [p.failure for p in people if p.failure] == []
    with store.reading() as connection:
        rows = collect_ratings(store, connection)
        progress = {r["rater"]: r for r in progress_of(store, connection)}
    found = study_results(study.design, rows, {}, n_resamples=n_resamples)
    store.close()
    errors = dict(zip((r.name for r in careful), ERRORS, strict=True))
    return {
        "results": found, "rows": rows, "errors": errors, "world": world, "progress": progress,
        "careless": careless.name, "n_keys": people[0].n_keys, "seconds": time.monotonic() - begun,
    }  # fmt: skip


def exclude_as_the_owner(base, token, name):
    """Exclude a rater who fails the checks, on the owner's page."""
    with httpx.Client(base_url=base, follow_redirects=True) as client:
        page = client.get(f"/o/{token}").text
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)[1]
        page = client.post(
            f"/owner/raters/{name}/exclude", data={"csrf": csrf, "why": "fails the attention checks"}
        ).text
        assert "excluded" in page


def in_browser(person):
    """Let a rater begin in a real browser."""
    from playwright.sync_api import sync_playwright

    with httpx.Client(base_url=person.base) as client:
        person.enter(client)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        person.browse(browser.new_page(locale="en-US"))
        browser.close()


# ---- what the error rates predict


def probabilities(run):
    """(metric, item) -> system, starter, P(yes) of each rater who rated it."""
    world, units = run["world"], {}
    first = {v: k for k, v in world.starter.items()}
    for r in run["rows"]:
        e, text = run["errors"][r.rater], first[r.system, r.starter]
        truth = world.truth[r.metric, text, r.utterance]
        p = 1 - e if truth else e
        if r.metric == "empathy":  # asked only where this rater sees guidance
            p *= 1 - e if world.truth["guidance", text, 0] else e
        units.setdefault((r.metric, r.item), (r.system, r.starter, []))[2].append(p)
    return units


def p_majority(p):
    """P(two or three of three say yes)."""
    a, b, c = p
    return a * b * c + a * b * (1 - c) + a * (1 - b) * c + (1 - a) * b * c


def predict(run):
    """The table and the agreement that the error rates predict, given which dialogs are true to what."""
    table, pairs, yes = {}, {}, {}
    for (metric, _), (system, starter, p) in probabilities(run).items():
        table.setdefault((system, metric), {}).setdefault(starter, []).append(p_majority(p))
        agree = [x * y + (1 - x) * (1 - y) for x, y in itertools.combinations(p, 2)]
        pairs.setdefault(metric, []).append(np.mean(agree))
        yes.setdefault(metric, []).append(np.mean(p))
    means = {k: float(np.mean([np.mean(v) for v in each.values()])) for k, each in table.items()}
    agreement = {}
    for metric in pairs:
        agreed, q, n = np.mean(pairs[metric]), np.mean(yes[metric]), 3 * len(pairs[metric])
        chance = q * q + (1 - q) ** 2
        agreement[metric] = {
            "fleiss_kappa": (agreed - chance) / (1 - chance),
            "krippendorff_alpha": 1 - (1 - agreed) / ((1 - chance) * n / (n - 1)),
            "gwet_ac1": (agreed - 2 * q * (1 - q)) / (1 - 2 * q * (1 - q)),
        }
    first = {s: means[s, "empathy"] / means[s, "guidance"] for s in SYSTEMS}
    return means, agreement, first


def compare(run):
    """Rows of (what, predicted, found, interval)."""
    means, agreement, first = predict(run)
    found = run["results"]
    for system, metric in itertools.product(SYSTEMS, METRICS):
        cell = found["table"][system][metric]
        yield f"{metric}, {system}", means[system, metric], cell["mean"], cell["ci"]
    for system in SYSTEMS:
        cell = found["empathy_first"][system]
        yield f"empathy first, of the successes, {system}", first[system], cell["share"], cell["ci"]
    for metric, names in agreement.items():
        for name, value in names.items():
            yield f"{name}, {metric}", value, found["agreement"][metric][name], found["agreement"][metric]["ci"][name]


def as_markdown(run):
    """The page of results."""
    rows = list(compare(run))
    held = sum(low <= predicted <= high for _, predicted, _, (low, high) in rows)
    careless, done = run["progress"][run["careless"]], {r: p["n_done"] for r, p in run["progress"].items()}
    lines = [
        "# A simulated study", "",
        "**Simulated raters, no people.** Made-up dialogs with a known truth, and raters that give the opposite of it at a known rate:",
        "a test of pages, database and statistics, which says nothing of any system. `PYTHONPATH=tests python tests/study/simulation.py "
        "docs/results/study-simulation.md`", "(the same run, with its limits, is a test: `tests/study/test_simulation.py`).", "",
        f"{len(SYSTEMS)} systems x {len({r.starter for r in run['rows']})} dialogs of 10 turns, 3 ratings of each item by six raters with the error "
        f"rates {', '.join(f'{e:g}' for e in ERRORS)}; {len(run['rows']):,} ratings", f"in {run['seconds']:.0f} s on two cores. The first rater's first "
        f"ten items were rated in Chromium by keyboard ({run['n_keys']} keys), the rest over HTTP, all", "raters at once. Before them a rater who "
        f"answers at random did {careless['n_done']} items, passed {careless['n_checks_passed']} of {careless['n_checks']} attention checks, and was excluded "
        "on the owner's page;", f"those items were given out again. Items done: {', '.join(str(done[r]) for r in run['errors'])}.", "",
        f"Predicted from the error rates; found, with 95 % intervals (bootstrap over dialogs, of agreement over items). {held} of {len(rows)} intervals",
        "hold what was predicted: more than 95 %, since predictions are for these dialogs and intervals are for dialogs like them. D and E have the",
        "same rates of truth. Which rater gets which item depends on who asks first, so figures differ a little from run to run.", "",
        "| what | predicted | found | 95 % interval | held |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {what} | {predicted:.3f} | {value:.3f} | [{low:.3f}, {high:.3f}] | {'yes' if low <= predicted <= high else 'no'} |"
        for what, predicted, value, (low, high) in rows
    ]
    lines += [
        "",
        "Paired tests of guidance (q: p after Benjamini and Hochberg):",
        "",
        "| systems | difference | p | q |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {t['a']} - {t['b']} | {t['difference']:+.3f} [{t['ci'][0]:+.3f}, {t['ci'][1]:+.3f}] | {t['p']:.4f} | {t['q']:.4f} |"
        for t in run["results"]["tests"]["guidance"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        run = simulate(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    write_text(Path(sys.argv[1]), as_markdown(run))
