"""What holds of every Ray cluster that is started or joined."""

import pytest

import pege.cluster  # noqa: F401


def test_ray_sends_no_usage_statistics():
    usage = pytest.importorskip("ray._common.usage.usage_lib")
    assert not usage.usage_stats_enabled()
