"""Self-chat: a user agent and a candidate agent talk (design sec. 8)."""

from pege.selfchat.play import consoling_share, is_played, play_dialogs, run_selfchat, settings_of
from pege.selfchat.starters import check_starters, load_starters, pick_starters

__all__ = [
    "check_starters",
    "consoling_share",
    "is_played",
    "load_starters",
    "pick_starters",
    "play_dialogs",
    "run_selfchat",
    "settings_of",
]
