"""Wrong keys are counted for sign-in and API together, before any is looked at; settings are of ours or none."""

from __future__ import annotations

import hashlib

import pytest
import uvicorn
from chat_person import Person
from chat_served import BASE, Says, app_of, form_token
from starlette.testclient import TestClient

from pege.web import trust_proxies

KEY = "a-key-of-the-server"
HASHES = (hashlib.sha256(KEY.encode()).hexdigest(),)


def client_at(app, address):
    client = TestClient(app, base_url=BASE, client=(address, 1), follow_redirects=False)
    csrf = form_token(client.get("/sign-in").text)
    sign_in = lambda key: client.post("/sign-in", data={"csrf": csrf, "key": key}).status_code  # noqa: E731
    ask = lambda key: client.get("/v1/models", headers={"authorization": f"Bearer {key}"} if key else {})  # noqa: E731
    return sign_in, ask


def test_after_too_many_wrong_sign_ins_a_right_key_has_to_wait_too(store):
    app = app_of(Says(), store, key_hashes=HASHES)
    sign_in, _ = client_at(app, "10.0.0.1")
    assert sign_in(KEY) == 303
    assert [sign_in("wrong") for _ in range(11)] == [403] * 10 + [429]
    assert sign_in(KEY) == 429
    assert client_at(app, "10.0.0.2")[0](KEY) == 303


def test_wrong_keys_of_the_api_and_of_the_sign_in_are_counted_together(store):
    app = app_of(Says(), store, key_hashes=HASHES)
    sign_in, ask = client_at(app, "10.0.0.1")
    assert [ask("").status_code for _ in range(20)] == [401] * 20  # no key is no guess
    assert [ask("wrong").status_code for _ in range(6)] == [401] * 6
    assert [sign_in("wrong") for _ in range(4)] == [403] * 4
    assert sign_in(KEY) == 429
    refused = ask(KEY)
    assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) <= 60) == (429, True)
    assert client_at(app, "10.0.0.2")[1](KEY).status_code == 200


def behind_proxy(app, proxies):
    config = uvicorn.Config(app, **trust_proxies(proxies))
    config.load()
    return config.loaded_app


def test_behind_a_proxy_that_is_named_each_has_a_rate_and_cookies_are_for_tls_alone(store):
    app = behind_proxy(app_of(Says(), store, requests_per_minute=2), ["10.0.0.2"])
    client = TestClient(app, base_url=BASE, client=("10.0.0.2", 1))

    def ask(person):
        return client.get("/help", headers={"x-forwarded-for": person, "x-forwarded-proto": "https"})

    first = ask("203.0.113.5")
    assert "secure" in first.headers["set-cookie"].lower()
    assert [first.status_code, ask("203.0.113.5").status_code, ask("203.0.113.5").status_code] == [200, 200, 429]
    assert ask("203.0.113.6").status_code == 200


def test_a_forged_address_gets_round_no_rate(store):
    app = behind_proxy(app_of(Says(), store, requests_per_minute=2), ["10.0.0.2"])
    client = TestClient(app, base_url=BASE, client=("198.51.100.7", 1))
    answers = [client.get("/help", headers={"x-forwarded-for": f"203.0.113.{k}"}) for k in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    forged = TestClient(app, base_url=BASE, client=("198.51.100.8", 1))
    assert "secure" not in forged.get("/help", headers={"x-forwarded-proto": "https"}).headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("name", "value"), [("language", "中"), ("language", "fr"), ("theme", "зелёный"), ("trajectory", "a;b"), ("x", "y")]
)
def test_a_setting_that_is_none_of_ours_changes_nothing(store, name, value):
    person = Person(app_of(Says(), store))
    person.change("/settings", language="zh", theme="dark", trajectory="hidden")
    answered = person.client.post("/settings", data={"csrf": person.csrf, name: value}, follow_redirects=False)
    assert answered.status_code == 303
    page = person.client.get("/", headers={"accept-language": "en"}).text
    assert '<html lang="zh-CN" data-theme="dark">' in page
    assert "no-mood" in page


def test_the_page_of_help_lines_says_where_each_is_from_and_when_it_was_checked(store, tmp_path, monkeypatch):
    person = Person(app_of(Says(), store))
    page = person.client.get("/help").text
    assert page.count("Not yet checked") == page.count('class="line-name"') == 10
    assert ">988lifeline.org</a>" in page
    assert "written in 2026-11" in page
    chinese = person.client.get("/help", headers={"accept-language": "zh"}).text
    assert chinese.count("尚未核对") == 10
    assert "写于 2026-11" in chinese
    own = tmp_path / "own.json"
    own.write_text(
        '{"written": "2026-12-01", "lines": [{"country": "BR", "name": "CVV", "contact": "188",'
        ' "source": "https://cvv.org.br/ajuda", "checked": "2026-11-30"}]}'
    )
    monkeypatch.setenv("PEGE_HELP_LINES", str(own))
    page = person.client.get("/help").text
    assert "Last checked: 2026-11-30" in page
    assert "written in 2026-12-01" in page
    assert 'href="https://cvv.org.br/ajuda"' in page
    assert "988" not in page
