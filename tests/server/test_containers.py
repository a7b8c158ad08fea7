"""The container files: parsed, and what they and the docs start is what the command line takes. They are not built here."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pege.cli import app
from pege.server.config import ServerConfig

FOLDER = Path(__file__).parents[2] / "containers"


def test_compose_starts_the_proxy_with_flags_that_there_are_and_opens_no_port_to_the_network():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == {"pege", "vllm", "postgres"}
    command = services["pege"]["command"]
    flags = {c.removeprefix("--") for c in command if c.startswith("--")}
    assert flags <= set(ServerConfig.model_fields)
    assert command[:2] == ["serve", "http://vllm:8000/v1#pege"]
    ports = [p for s in services.values() for p in s.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]
    assert services["pege"]["read_only"] is True
    assert "back" in services["vllm"]["networks"]


def test_the_image_starts_no_server_by_itself_and_says_how_one_is_reached():
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    assert 'CMD ["--help"]' in lines
    assert not [line for line in lines if line.startswith("HEALTHCHECK")]  # the two servers have other paths
    shown = " ".join(line.removeprefix("#") for line in lines if line.startswith("#"))
    serve, study = (part.split() for part in shown.split("podman run")[1:])
    for words, port in ((serve, "8000"), (study, "8080")):
        assert words[:2] == ["-p", f"127.0.0.1:{port}:{port}"]
        assert words[words.index("--host") + 1] == "0.0.0.0"
    assert {w.removeprefix("--") for w in serve if w.startswith("--")} <= set(ServerConfig.model_fields)
    ServerConfig(host="0.0.0.0", key_hashes=("0" * 64,)).check_bind()


def test_what_compose_asks_whether_the_server_is_well_is_there():
    from chat_served import Says, app_of
    from starlette.testclient import TestClient

    test = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["pege"]["healthcheck"]["test"]
    path = test[-1].split("127.0.0.1:8000")[1].split("'")[0]
    assert TestClient(app_of(Says()), base_url="http://127.0.0.1:8000").get(path).status_code == 200


def test_the_image_runs_without_root_and_copies_only_what_is_there():
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert [w[1] for w in words if w[0] == "USER"] == ["pege"]
    copied = [source for w in words if w[0] == "COPY" for source in w[1:-1]]
    assert all((FOLDER.parent / source).exists() for source in copied)


def test_the_switches_that_the_docs_turn_off_can_be_turned_off():
    docs = [(FOLDER.parent / "docs" / name).read_text() for name in ("server.md", "web-chat.md")]
    flags = {flag for text in docs for flag in re.findall(r"`(--\w+=false)`", text)}
    assert flags == {"--chat=false", "--json_logs=false"}
    _, bound, _ = app.parse_args(["serve", "base", *flags], exit_on_error=False, print_error=False)
    assert not bound.arguments["chat"].chat
    assert not bound.arguments["config"].json_logs
    assert not any("--no-" in text for text in docs)
