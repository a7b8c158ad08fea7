"""The web chat in a real browser: stream, stop, edit, reload, delete, crisis, hostile text, keyboard, accessibility."""

from __future__ import annotations

import re

import pytest
from chat_served import CRISES, HOSTILE, Says, served

from browsing import DESKTOP, NEEDS_CHROMIUM, PHONE, check
from pege.safety import help_text

pytestmark = NEEDS_CHROMIUM
READY = "#layout:not(.busy)"


@pytest.fixture
def open_page(open_page):
    """As all have it, but patient: a loaded machine is slow."""

    def opened(**how):
        page = open_page(**how)
        page.set_default_timeout(60_000)
        return page

    return opened


def say(page, text, *, wait=True):
    page.wait_for_load_state("load")  # a page that a click opened may be there before its script is
    page.fill("#text", text)
    page.keyboard.press("Enter")
    if wait:
        page.wait_for_selector(READY)


def until(page, claim):
    """Wait for a claim about the page; Playwright's own waiting would evaluate text, which the pages forbid."""
    for _ in range(400):
        if page.evaluate(claim):
            return
        page.wait_for_timeout(50)
    raise AssertionError(claim)


def texts(page):
    return page.locator("#talk .text").all_inner_texts()


def drawn(page, n):
    """Texts of a talk that a page just opened shows, once it shows `n`: its script may still be at work."""
    until(page, f"document.querySelectorAll('#talk .text').length === {n}")
    return texts(page)


def test_a_response_streams_stops_and_is_drawn_again(store, open_page):
    agent = Says("One two. Three four. Five six. Seven eight. Nine ten.", "Short answer.", wait_s=0.4)
    page = open_page()
    with served(agent, store) as base:
        page.goto(base)
        say(page, "I am sad.", wait=False)
        until(page, "document.querySelectorAll('#talk .text')[1]?.textContent.includes('two')")
        assert not page.locator("#send").is_visible()
        page.keyboard.press("Escape")
        page.wait_for_selector(READY)
        partly = texts(page)[1]
        assert "two" in partly
        assert "ten" not in partly
        assert page.get_by_text("stopped here").is_visible()
        for _ in range(50):
            if agent.n_given_up:
                break
            page.wait_for_timeout(50)
        assert agent.n_given_up == 1  # the row was freed
        page.get_by_role("button", name="Another response").click()
        page.wait_for_selector(READY)
        assert texts(page) == ["I am sad.", "Short answer."]
        assert agent.asked == [["I am sad."], ["I am sad."]]


def test_editing_an_utterance_cuts_what_follows(store, open_page):
    agent = Says("First.", "Second.", "Third.")
    page = open_page()
    with served(agent, store) as base:
        page.goto(base)
        say(page, "one")
        say(page, "two")
        page.get_by_role("button", name="Edit").first.click()
        assert page.locator(".edit textarea").input_value() == "one"
        page.keyboard.press("Escape")
        assert texts(page) == ["one", "First.", "two", "Second."]
        page.get_by_role("button", name="Edit").first.click()
        page.fill(".edit textarea", "uno")
        page.get_by_role("button", name="Send again").click()
        page.wait_for_selector(READY)
        assert drawn(page, 2) == ["uno", "Third."]
        assert agent.asked[-1] == ["uno"]


def test_only_a_kept_dialog_comes_back_after_a_reload_and_after_closing(store, open_page):
    page = open_page()
    with served(Says("I am here."), store) as base:
        page.goto(base)
        say(page, "not to be kept")
        page.reload()
        assert texts(page) == []
        say(page, "begun before")
        page.locator("label.switch").click()
        page.wait_for_url("**/dialog/*")
        say(page, "the second part")
        address = page.url
        page.reload()
        assert drawn(page, 4) == ["begun before", "I am here.", "the second part", "I am here."]
        assert page.locator("#keep").is_checked()
        assert page.locator("#plot svg circle").count() >= 1  # the trajectory too
        again = page.context.new_page()
        page.close()
        again.goto(base)
        again.get_by_role("link", name="begun before").click()
        drawn(again, 4)
        assert again.url == address
        stranger = open_page()
        stranger.goto(address)
        assert "no such dialog of yours" in stranger.locator("main").inner_text()
        again.on("dialog", lambda d: d.accept())
        again.locator("label.switch").click()  # keeping no longer: the copy is deleted
        again.wait_for_url(re.compile(r"/$"))
        drawn(again, 4)
        again.reload()
        assert texts(again) == []


def test_a_menu_that_is_open_is_not_closed_by_what_is_kept_meanwhile(store, open_page):
    page = open_page()
    with served(Says("I see."), store) as base:
        page.goto(base)
        page.locator("label.switch").click()
        say(page, "an evening at home")
        page.locator(".kept li").wait_for()
        page.wait_for_load_state("networkidle")
        page.locator(".kept summary").click()
        page.locator(".kept input:visible").fill("Half a na")
        with page.expect_response("**/dialogs*"):
            say(page, "and then")
        page.wait_for_load_state("networkidle")
        assert page.locator(".kept input:visible").input_value() == "Half a na"
        with page.expect_response("**/dialogs*"):  # the list is drawn again once the menu is closed
            page.locator(".kept summary").click()
        until(page, "document.querySelectorAll('.kept details[open]').length === 0")
        page.locator(".kept summary").click()
        until(
            page,
            "document.querySelector('.kept details[open] input:not([type=hidden])').value === 'an evening at home'",
        )


def test_a_dialog_is_named_found_downloaded_and_deleted(store, open_page):
    page = open_page()
    page.on("dialog", lambda d: d.accept())
    with served(Says("I see."), store) as base:
        page.goto(base)
        for text in ("an evening at home", "about a job"):
            page.goto(base)
            page.locator("label.switch").click()
            say(page, text)
        page.locator(".kept li", has_text="about a job").locator("summary").click()
        page.locator(".kept input:visible").fill("Work & <b>worry</b>")
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("link", name="Work & <b>worry</b>", exact=True).wait_for()
        page.fill("#q", "EVENING")
        until(page, "document.querySelectorAll('.kept li').length === 1")
        assert "an evening at home" in page.locator(".kept").inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download all").click()
        assert download.value.suggested_filename == "dialogs.jsonl"
        page.fill("#q", "")
        until(page, "document.querySelectorAll('.kept li').length === 2")
        page.locator(".kept li.current summary").click()
        page.locator(".kept li.current").get_by_role("button", name=re.compile("^Delete")).click()
        page.wait_for_url(re.compile(r"/$"))
        until(page, "document.querySelectorAll('.kept li').length === 1")
        assert texts(page) == []


@pytest.mark.parametrize(("language", "locale"), [("en", "en-US"), ("zh", "zh-CN")])
def test_a_crisis_gets_the_fixed_text_in_a_box_of_its_own_and_no_word_of_a_model(store, open_page, language, locale):
    agent = Says("Cheer up!")
    page = open_page(locale=locale)
    with served(agent, store) as base:
        page.goto(base)
        say(page, CRISES[language])
        box = page.locator("#talk .crisis")
        assert box.locator(".text").inner_text() == help_text(language)
        assert box.get_by_role("heading").is_visible()
        assert box.get_by_role("link").get_attribute("href") == "/help"
        assert box.get_by_role("button").count() == 0  # no other response of it
        off = {"en": "Guidance is off", "zh": "引导已关闭"}[language]
        assert off in page.locator("#stage").inner_text()
        assert agent.asked == []
        assert "988" in page.locator("#live").inner_text()
        say(page, {"en": "ok", "zh": "好"}[language])
        assert off in page.locator("#stage").inner_text()
        assert agent.asked == []


def test_after_a_crisis_a_model_that_can_support_answers_and_guidance_stays_off(store, open_page):
    agent = Says("I am with you.")
    agent.can_support = True
    page = open_page()
    with served(agent, store) as base:
        page.goto(base)
        say(page, "I feel so empty, nothing matters any more.")  # a hit, and not so sure that the dialog is locked
        say(page, "I feel a bit better now.")
        assert texts(page)[-1].startswith("I am with you.")
        assert page.locator("#talk .crisis").count() == 1
        assert "Guidance is off" in page.locator("#stage").inner_text()
        assert not page.locator("#meter").is_visible()


def test_a_crisis_that_is_edited_away_leaves_guidance_off_also_after_a_reload_or_in_another_language(store, open_page):
    agent = Says("I am with you.")
    agent.can_support = True
    page = open_page()
    with served(agent, store) as base:
        page.goto(base)
        say(page, CRISES["en"])
        page.get_by_role("button", name="Edit").first.click()
        page.fill(".edit textarea", "I went for a walk today.")
        page.get_by_role("button", name="Send again").click()
        page.wait_for_selector(READY)
        until(page, "document.querySelectorAll('#talk .text')[1]?.textContent.startsWith('I am with you.')")
        page.wait_for_selector(READY)
        assert page.locator("#talk .crisis").count() == 0
        assert "Guidance is off" in page.locator("#stage").inner_text()
        assert not page.locator("#meter").is_visible()
        page.get_by_role("button", name="中文").click()
        page.wait_for_selector("html[lang=zh-CN]")
        say(page, "The sun was out.")  # nothing of what the page still holds tells of a crisis but itself
        assert "引导已关闭" in page.locator("#stage").inner_text()
        page.locator("label.switch").click()
        page.wait_for_url("**/dialog/*")
        page.reload()
        drawn(page, 4)
        page.locator("[data-edit]").first.click()
        page.fill(".edit textarea", "A calm day.")
        page.locator(".edit button.main").click()
        page.wait_for_selector(READY)
        until(page, "document.querySelectorAll('#talk .text').length === 2")
        assert "引导已关闭" in page.locator("#stage").inner_text()
        page.goto(base)
        say(page, "I went for a walk today.")  # another dialog
        assert "引导已关闭" not in page.locator("#stage").inner_text()


def test_hostile_text_runs_nothing_on_either_side_nor_in_names(store, open_page):
    page, alerts = open_page(), []
    page.on("dialog", lambda d: (alerts.append(d.message), d.dismiss()))
    with served(Says(HOSTILE), store) as base:
        page.goto(base)
        page.locator("label.switch").click()
        say(page, HOSTILE)
        page.wait_for_selector(".kept li")
        assert texts(page) == [HOSTILE, HOSTILE]
        page.reload()
        assert drawn(page, 2) == [HOSTILE, HOSTILE]
        assert page.locator("main img, main script, nav img, nav script").count() == 0
        assert page.locator(".kept a").first.inner_text().startswith("<img src=x")
        page.fill("#q", "<script>")
        page.wait_for_timeout(500)
        assert page.locator(".kept li").count() == 1
    assert alerts == []


def test_all_of_a_talk_goes_by_keyboard_alone(store, open_page):
    page = open_page()
    press = page.keyboard.press

    def reach(selector, key="Tab"):
        for _ in range(40):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            press(key)
        raise AssertionError(f"{selector} cannot be reached by {key}")

    with served(Says("I hear you.", "Another one."), store) as base:
        page.goto(base)
        reach("#text")
        page.keyboard.type("I am worried.")
        press("Shift+Enter")
        page.keyboard.type("Very.")
        press("Enter")
        page.wait_for_selector("#talk .agent")
        page.wait_for_selector(READY)
        assert texts(page)[0] == "I am worried.\nVery."
        reach("[data-again]", "Shift+Tab")
        press("Enter")
        until(page, "document.querySelectorAll('#talk .text')[1]?.textContent === 'Another one.'")
        page.wait_for_selector(READY)
        reach("[data-edit]", "Shift+Tab")
        press("Enter")
        page.keyboard.type("Now: ")
        press("Escape")
        assert page.evaluate("document.activeElement.matches('[data-edit]')")
        reach("#keep")
        press("Space")
        page.wait_for_url("**/dialog/*")
        reach("#hide-mood")
        with page.expect_response("**/settings"):
            press("Enter")
        assert not page.locator("#mood").is_visible()
        assert page.evaluate("document.activeElement.id") == "show-mood"
        page.reload()
        assert not page.locator("#mood").is_visible()  # the choice holds
        page.wait_for_selector(".kept li")
        reach(".kept summary", "Shift+Tab")
        press("Enter")
        assert page.get_by_role("button", name="Rename").is_visible()


def test_readers_of_a_screen_hear_whole_sentences(store, open_page):
    page = open_page()
    with served(Says("That is hard. I am with you! What happened then?", wait_s=0.05), store) as base:
        page.goto(base)
        page.evaluate(
            "window.heard = []; new MutationObserver(l => l.forEach(m => m.addedNodes.forEach(n => heard.push(n.textContent.trim()))))"
            ".observe(document.getElementById('live'), {childList: true})"
        )
        say(page, "I am sad.")
        heard = page.evaluate("heard")
        assert " ".join(heard) == "That is hard. I am with you! What happened then?"
        assert all(h[-1] in ".!?" for h in heard)
        assert page.locator("#live").get_attribute("aria-live") == "polite"


def test_a_change_of_language_or_colours_keeps_the_talk_of_the_page(store, open_page):
    page = open_page()
    with served(Says("I am here."), store) as base:
        page.goto(base)
        say(page, "hello")
        page.get_by_role("button", name="Switch to dark colours").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.get_by_role("button", name="中文").click()
        page.wait_for_selector("html[lang=zh-CN]")
        assert drawn(page, 2) == ["hello", "I am here."]
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.reload()
        assert texts(page) == []  # it was carried over once


def test_a_language_chosen_before_the_colours_are_answered_waits_for_them(store, open_page):
    page, held = open_page(), []
    with served(Says("I am here."), store) as base:
        page.goto(base)
        page.route("**/settings", lambda r: held.append(r) if "theme=" in r.request.post_data else r.continue_())
        page.get_by_role("button", name="Switch to dark colours").click()
        page.get_by_role("button", name="中文").click()
        page.wait_for_timeout(300)
        assert page.locator("html").get_attribute("lang") == "en"
        held[0].continue_()
        page.wait_for_selector("html[lang=zh-CN]")
        assert page.locator("html").get_attribute("data-theme") == "dark"


def test_where_the_storage_is_gone_one_line_says_so_and_the_talk_goes_on(store, open_page, tmp_path):
    page = open_page()
    with served(Says("I am here."), store) as base:
        page.goto(base)
        page.locator("label.switch").click()
        say(page, "hello")
        (tmp_path / "chat.db").rename(tmp_path / "away.db")
        say(page, "still there?")
        assert texts(page)[-1] == "I am here."
        assert "not being kept right now" in page.locator("#status").inner_text()
        (tmp_path / "away.db").rename(tmp_path / "chat.db")
        say(page, "and now?")
        assert "not being kept" not in page.locator("#status").inner_text()
        page.reload()
        drawn(page, 6)  # what was said in between is kept too


@pytest.mark.parametrize(  # each two of the three together once
    ("kind", "language", "scheme"),
    [("desktop", "en", "light"), ("desktop", "zh", "dark"), ("phone", "en", "dark"), ("phone", "zh", "light")],
)
def test_axe_finds_no_serious_problem_on_any_page(store, open_page, kind, language, scheme):
    from axe_playwright_python.sync_playwright import Axe

    axe, locale = Axe(), {"en": "en-US", "zh": "zh-CN"}[language]
    page = open_page(**{"desktop": DESKTOP, "phone": PHONE}[kind], color_scheme=scheme, locale=locale)
    with served(Says("I am so sorry that you feel sad."), store) as base:
        page.goto(base)
        check(page, axe)
        page.locator("label.switch").click()
        say(page, "I am happy. 我很高兴。")
        say(page, CRISES[language])
        page.locator("[data-edit]").first.click()
        check(page, axe)
        page.keyboard.press("Escape")
        if kind == "phone":
            page.click("#show-mood")
            check(page, axe)
            page.keyboard.press("Escape")
            page.click("#menu")
        page.locator(".kept summary").first.click()
        check(page, axe)
        for path in ("/help", "/privacy", "/dialog/none"):
            page.goto(base + path)
            check(page, axe)


def test_targets_are_large_enough_for_a_thumb(store, open_page):
    page = open_page(**PHONE)
    with served(Says(), store) as base:
        page.goto(base)
        for box in page.locator(".top button:visible, .box button:visible, .switch, .starts button").all():
            size = box.bounding_box()
            assert min(size["width"], size["height"]) >= 44
