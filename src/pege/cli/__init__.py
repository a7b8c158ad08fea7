"""The command line: a thin function per command. Modules are imported when their command is called."""

from __future__ import annotations

import logging
import sys

from cyclopts import App, CycloptsError, Parameter

from pege import __version__
from pege.errors import InputError, is_disk_full

app = App(
    name="pege",
    version=__version__,
    help="Empathetic dialog with positive emotion elicitation: build, train, chat, measure.",
    default_parameter=Parameter(negative=(), consume_multiple=True),
)

# The main path, in its order: raw dialogs -> corpus -> training -> agent -> selfchat -> metrics -> report.
_COMMANDS = {
    "demo": ("pege.cli.demo:demo", "Walk the main path on real conversations, 7 to 20 minutes."),
    "corpus": ("pege.cli.corpus:app", "Raw dialogs to a corpus: build, count, inspect, describe, audit."),
    "lexicon": ("pege.cli.lexicon:app", "VAD lexicons: look words up, measure coverage, compare, build."),
    "emotion": ("pege.cli.emotion:app", "Emotion of an utterance: predict, measure, compare, train, cascade."),
    "tokenizer": ("pege.cli.tokenizer:tokenizer", "Train PLATO-2's vocabulary on rows."),
    "train": ("pege.cli.train:train", "Train a model with the PEGE loss or with plain NLL."),
    "prefer": ("pege.cli.prefer:prefer", "Train a run further on self-chats, by preference (DPO)."),
    "trim": ("pege.cli.trim:trim", "Keep only the tokens of a vocabulary that a corpus uses."),
    "convert": ("pege.cli.convert:app", "Published weights to ours: PLATO-2 of PaddleNLP and Knover."),
    "export": ("pege.cli.export:export", "A run as plain safetensors, adapters merged, for other engines."),
    "chat": ("pege.cli.chat:chat", "Talk to an agent in the terminal."),
    "serve": ("pege.cli.serve:serve", "Serve an agent as an OpenAI-compatible API, behind the safety path."),
    "selfchat": ("pege.cli.selfchat:selfchat", "Let a candidate agent talk with a plain user model."),
    "respond": ("pege.cli.respond:respond", "Respond to the contexts of real dialogs, for BLEU."),
    "perplexity": ("pege.cli.perplexity:perplexity", "Perplexity of a model on held-out rows."),
    "score": ("pege.cli.score:score", "Score dialogs: PEG-, E- and PEGE-Score with intervals."),
    "compare": ("pege.cli.score:compare", "Compare two systems on the same starters."),
    "report": ("pege.cli.report:report", "Write one page that says who did better."),
    "study": ("pege.cli.study:app", "Human evaluation on the web: create, serve, invite, results, agreement."),
    "reproduce": ("pege.cli.reproduce:reproduce", "Run a study: the paper's tables 3 and 5, and what they hold."),
    "safety": ("pege.cli.safety:app", "The crisis check that runs before any model."),
}
for _place, (_name, (_path, _help)) in enumerate(_COMMANDS.items()):
    _more = {"help_flags": ()} if _name == "train" else {}  # its own parser prints the help
    app.command(_path, name=_name, help=_help, sort_key=_place, **_more)


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit code 0: done; 2: bad input, worded in one line; 1: a bug, with its traceback."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)  # of others only warnings
    logging.getLogger("pege").setLevel(logging.INFO)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (InputError, CycloptsError) as e:
        print(f"pege: {' '.join(str(e).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as e:
        if not is_disk_full(e):
            raise
        print("pege: the disk is full; make room and start the same command again to go on", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("pege: stopped; start the same command again to go on", file=sys.stderr)
        sys.exit(130)
