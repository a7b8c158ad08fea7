"""Made-up systems and designs for the tests of studies."""

from __future__ import annotations

import yaml

from pege.dialog import make_dialog
from pege.io import write_rows

SYSTEMS = ("Aurora", "Borealis", "Cumulus")
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"; DROP TABLE answer; --'


def write_selfchats(folder, *, systems=SYSTEMS, n=4, n_turns=2):
    """A file a system, with the same starters."""
    files = {}
    for system in systems:
        rows = [
            make_dialog(
                [f"I feel sad today, number {k}." if not i else f"{'agent' if i % 2 else 'user'} {i} of {k}, kind {len(system)}"
                 for i in range(2 * n_turns)],
                id=f"s{k:02d}",
                lang="en",
            )
            for k in range(n)
        ]  # fmt: skip
        files[system] = folder / f"{system}.jsonl"
        write_rows(files[system], rows)
    return files


def write_design(folder, **changes):
    """A design's YAML beside its self-chats."""
    files = write_selfchats(folder) if "systems" not in changes else {}
    design = {"systems": {s: f.name for s, f in files.items()}, "n_dialogs": 4, "check_every": 0, **changes}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(design))
    return path
