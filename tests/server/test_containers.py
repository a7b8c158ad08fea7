"""The container files: parsed, and what they start is what the command line takes. They are not built here."""

from __future__ import annotations

from pathlib import Path

import yaml

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


def test_the_image_runs_without_root_and_copies_only_what_is_there():
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert [w[1] for w in words if w[0] == "USER"] == ["pege"]
    copied = [source for w in words if w[0] == "COPY" for source in w[1:-1]]
    assert all((FOLDER.parent / source).exists() for source in copied)
