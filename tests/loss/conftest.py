"""Tiles so small that every case has several."""

from __future__ import annotations

import pytest

from pege.loss import chunk, tiles


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "EXACT_NUMBERS", 150)
    monkeypatch.setattr(tiles, "FILTERED_NUMBERS", 150)
    monkeypatch.setattr(tiles, "FILTERED_TOKENS", 3)
    monkeypatch.setattr(chunk, "TILE_COLUMNS", 8)
    monkeypatch.setattr(chunk, "_STEP", 1)
