"""Self-chat: a user agent and a candidate agent talk (design sec. 8); and responses to real contexts, for BLEU."""

from pege.selfchat.batches import is_done
from pege.selfchat.play import consoling_share, play_dialogs, run_selfchat, settings_of, write_selfchat
from pege.selfchat.respond import respond_settings, respond_to_dialogs
from pege.selfchat.starters import check_starters, load_starters, pick_starters

__all__ = [
    "check_starters",
    "consoling_share",
    "is_done",
    "load_starters",
    "pick_starters",
    "play_dialogs",
    "respond_settings",
    "respond_to_dialogs",
    "run_selfchat",
    "settings_of",
    "write_selfchat",
]
