"""Tiles so small that every case has several."""

from __future__ import annotations

import pytest

import pege.loss.fused as fused


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK_NUMBERS", 150)
    monkeypatch.setattr(fused, "TILE_COLUMNS", 8)
