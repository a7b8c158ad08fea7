"""``pege safety check``."""

from __future__ import annotations

import json as jsonlib
import sys

from cyclopts import App, Parameter

from pege.safety import check_crisis

app = App(name="safety", help="The crisis check that runs before any model.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command
def check(*, json: bool = False) -> None:
    """Check each line of standard input; one line out for each line in.

    Args:
        json: print one JSON object a line.
    """
    for line in sys.stdin:
        crisis = check_crisis(line)
        if json:
            row = {"crisis": crisis is not None, "kind": crisis and crisis.kind, "score": float(crisis is not None)}
            print(jsonlib.dumps(row), flush=True)
        else:
            print(crisis.kind if crisis else "-", flush=True)
