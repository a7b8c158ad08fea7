"""What the tests of studies share: a study's folder, its store, a client."""

from __future__ import annotations

import pytest
from study_cases import write_design


@pytest.fixture
def make_study(tmp_path):
    """Make a study of three systems and four starters; keywords change its design."""
    from pege.study.folder import create_study

    def make(**changes):
        return create_study(write_design(tmp_path, **changes), tmp_path / "study")

    return make


@pytest.fixture
def make_store(make_study):
    """Open the SQLite store of a new study."""
    from pege.study.store import Store

    stores = []

    def make(**changes):
        stores.append(Store(make_study(**changes)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
