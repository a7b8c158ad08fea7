"""A real browser: by keyboard alone, with the server gone, without script, with hostile dialogs; accessibility by axe-core."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import sqlalchemy as sa
import yaml
from servers import served
from study_cases import HOSTILE

from browsing import DESKTOP, NEEDS_CHROMIUM, PHONE, check
from pege.dialog import make_dialog
from pege.io import write_rows
from pege.study import tables
from pege.study.folder import create_study
from pege.study.raters import Links, change_rater, invite_raters
from pege.study.rating import current_assignment, finish_item, questions_of
from pege.study.store import Store

pytestmark = NEEDS_CHROMIUM
COMPARISON = {
    "questions": [
        {"name": "best", "title": {"en": "Better", "zh": "更好"}, "question": {"en": "Which?", "zh": "哪个？"}}
    ]
}


def link(store, server, *, begun=False, language="en"):
    """A new rater's link."""
    (rater,) = invite_raters(store, 1)
    change_rater(store, rater.name, language=language, **({"consented_at": 1.0, "practised_at": 1.0} if begun else {}))
    return rater, f"{server.base}/r/{Links(store).rater_token(rater)}"


def answers(store):
    with store.reading() as connection:
        rows = connection.execute(sa.select(tables.answer)).all()
    return {(r.metric, r.place): r.value for r in rows}


def test_a_rater_gets_from_the_link_to_the_second_item_by_keyboard_alone(make_store, open_page):
    store = make_store()
    page = open_page()
    press = page.keyboard.press

    def reach(selector):
        for _ in range(60):
            press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert style != "none" or "radio" in selector  # the focus can be seen
                return
        raise AssertionError(f"{selector} cannot be reached by Tab")

    with served(store.study.folder) as server:
        page.goto(link(store, server)[1])
        reach("input[name=agree]")
        press("Space")
        reach("button.main")
        press("Enter")
        page.wait_for_url("**/instructions")
        reach("a.main")
        press("Enter")
        page.wait_for_url("**/practice")
        reach("input[type=radio]")
        for key in "1100111111":  # all ten, empathy too
            press(key)
        assert page.evaluate("document.activeElement.tagName") == "BUTTON"
        press("Enter")
        page.wait_for_selector(".feedback")
        reach("button.main")
        press("Enter")
        page.wait_for_url("**/rate")
        for key in "10100":  # two responses, two questions each; then guidance: no
            press(key)
        assert page.evaluate("document.activeElement.tagName") == "BUTTON"
        press("ArrowUp")  # to the last question, and up and down between them
        press("ArrowUp")
        press("ArrowDown")
        assert page.evaluate("document.activeElement.name") == "a:guidance:0"
        page.wait_for_selector("[data-status][data-state=saved]")
        press("Enter")
        page.get_by_role("heading", name="Conversation 2").wait_for()
        page.locator("#page:focus").wait_for()  # the reader of a screen starts at the top
    said = answers(store)
    assert said == {
        ("coherence", 1): "1", ("informativeness", 1): "0", ("coherence", 2): "1", ("informativeness", 2): "0",
        ("guidance", 0): "0", ("empathy", 0): "0",
    }  # fmt: skip
    store.close()


def test_empathy_is_asked_once_guidance_is_yes(make_store, open_page):
    store = make_store()
    page = open_page()
    with served(store.study.folder) as server:
        page.goto(link(store, server, begun=True)[1])
        empathy = page.locator("input[name='a:empathy:0']").first
        assert not empathy.is_visible()
        page.locator("input[name='a:guidance:0'][value='1']").press("Space")
        assert empathy.is_visible()
        assert "1 of 6 answered" in page.locator(".status").inner_text()
        page.locator("input[name='a:guidance:0'][value='0']").press("Space")
        assert not empathy.is_visible()
    store.close()


def test_answers_given_while_the_server_is_gone_are_saved_when_it_is_back(make_store, open_page):
    store = make_store()
    page = open_page()
    with served(store.study.folder) as server:
        page.goto(link(store, server, begun=True)[1])
        page.keyboard.press("1")
        page.wait_for_selector("[data-status][data-state=saved]")
        server.kill()
        for key in "010":
            page.keyboard.press(key)
        page.wait_for_selector("[data-status][data-state=failed]")
        assert "Not saved yet" in page.locator(".status").inner_text()
        assert len(answers(store)) == 1
        server.start()
        page.wait_for_selector("[data-status][data-state=saved]", timeout=30_000)
        assert [answers(store)[m, p] for m, p in (("coherence", 1), ("informativeness", 1), ("coherence", 2))] == [
            "1",
            "0",
            "1",
        ]
        page.reload()
        assert page.locator("input:checked").count() == 4
    store.close()


def test_the_pages_work_without_script(make_store, open_page):
    store = make_store()
    page = open_page(java_script_enabled=False)
    with served(store.study.folder) as server:
        page.goto(link(store, server)[1])
        page.check("input[name=agree]")
        page.click("main button.main")
        page.click("a.main")
        page.click("main button.main")
        page.click("main button.main")
        for n in (1, 2):
            assert f"Conversation {n}" in page.locator("h1").inner_text()
            for name in dict.fromkeys(re.findall(r'name="(a:[^"]+)"', page.content())):
                page.locator(f"input[name='{name}'][value='1']").press("Space")  # no click: it could land beside
            page.click("main button.main")
    assert Counter(answers(store).values()) == {"1": 6}
    store.close()


def test_hostile_dialogs_run_nothing(tmp_path, open_page):
    write_rows(tmp_path / "Bad.jsonl", [make_dialog([HOSTILE] * 4, id="x", lang="en")])
    (tmp_path / "d.yaml").write_text(
        yaml.safe_dump({"systems": {"Bad": "Bad.jsonl"}, "n_dialogs": 1, "check_every": 0})
    )
    store = Store(create_study(tmp_path / "d.yaml", tmp_path / "study"))
    page, alerts = open_page(), []
    page.on("dialog", lambda d: (alerts.append(d.message), d.dismiss()))
    with served(store.study.folder) as server:
        page.goto(link(store, server, begun=True)[1])
        page.keyboard.press("1")
        page.wait_for_selector("[data-status][data-state=saved]")
        assert page.locator(".text").first.inner_text() == HOSTILE
        assert page.locator(".text img, .text script").count() == 0
    assert alerts == []
    store.close()


@pytest.mark.parametrize(  # each two of the three together once
    ("kind", "language", "scheme"),
    [("desktop", "en", "light"), ("desktop", "zh", "dark"), ("phone", "en", "dark"), ("phone", "zh", "light")],
)
def test_axe_finds_no_serious_problem_on_any_page(make_store, open_page, kind, language, scheme):
    from axe_playwright_python.sync_playwright import Axe

    store, axe = make_store(comparison=COMPARISON, raters_per_item=9), Axe()
    locale = {"en": "en-US", "zh": "zh-CN"}[language]
    page = open_page(**{"desktop": DESKTOP, "phone": PHONE}[kind], color_scheme=scheme, locale=locale)
    with served(store.study.folder) as server:
        rater, address = link(store, server, language=language)
        seen = set()

        def look():
            assert page.locator("html").get_attribute("lang") == language
            check(page, axe)
            seen.add(page.locator("h1").inner_text())

        page.goto(address)
        look()
        page.check("input[name=agree]")
        page.click("main button.main")
        look()
        page.click("a.main")
        look()
        page.click("main button.main")
        look()
        page.click("main button.main")
        kinds = set()
        while (found := current_assignment(store, rater)) is not None:
            if found.item.kind not in kinds:
                kinds.add(found.item.kind)
                page.goto(f"{server.base}/rate")
                look()
                page.click("main button.main")
                page.wait_for_selector(".error")
                look()  # what is missing
            finish_item(
                store, rater, found.id, {q: v[-1] for q, v in questions_of(store.study.design, found.item).items()}
            )
        assert kinds == {"dialog", "pair"}
        for path in (
            "/rate",
            "/withdraw",
            "/r/nothing",
            f"/o/{Links(store).owner_token()}",
            f"/owner/raters/{rater.name}",
        ):
            page.goto(server.base + path)
            look()
        assert len(seen) >= 9
    store.close()


def test_targets_are_large_enough_for_a_thumb(make_store, open_page):
    store = make_store()
    page = open_page(**PHONE)
    with served(store.study.folder) as server:
        page.goto(link(store, server, begun=True)[1])
        for box in page.locator("label.option:visible, main button.main").all():
            size = box.bounding_box()
            assert min(size["width"], size["height"]) >= 44
    store.close()
