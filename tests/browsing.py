"""Debian's chromium for the tests of both web apps: where it is, two screens, and what axe-core says of a page."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt-get install chromium)"),
    pytest.mark.slow,
]
DESKTOP = {"viewport": {"width": 1200, "height": 850}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


def launch(playwright):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def check(page, axe):
    """axe-core's rules of WCAG 2.2 A and AA; nothing of the impact serious or critical, and no scrolling sideways."""
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = axe.run(page, options={"runOnly": rules})
    bad = [
        (v["id"], v["nodes"][0]["target"])
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert bad == [], page.url
    assert found.response["passes"]
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} scrolls sideways"
