"""The command line: a thin function per command. Modules are imported when their command is called."""

from __future__ import annotations

import logging
import sys

from cyclopts import App, CycloptsError, Parameter

from pege import __version__
from pege.errors import InputError

app = App(
    name="pege",
    version=__version__,
    help="Empathetic dialog with positive emotion elicitation: build, train, chat, measure.",
    default_parameter=Parameter(negative=()),
)

# The main path, in its order: raw dialogs -> corpus -> training -> agent -> selfchat -> metrics -> report.
for _name, _path in {
    "corpus": "pege.cli.corpus:app",
    "lexicon": "pege.cli.lexicon:app",
    "emotion": "pege.cli.emotion:app",
    "train": "pege.cli.train:train",
    "chat": "pege.cli.chat:chat",
    "selfchat": "pege.cli.selfchat:selfchat",
    "score": "pege.cli.score:score",
    "compare": "pege.cli.score:compare",
    "report": "pege.cli.report:report",
    "demo": "pege.cli.demo:demo",
}.items():
    app.command(_path, name=_name, **({"help_flags": ()} if _name == "train" else {}))


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit code 0: done; 2: bad input, worded in one line; 1: a bug, with its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (InputError, CycloptsError) as e:
        print(f"pege: {' '.join(str(e).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("pege: stopped; start the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
