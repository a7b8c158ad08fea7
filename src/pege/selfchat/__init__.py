"""Self-chat: a user agent and a candidate agent talk (design sec. 8)."""

from pege.selfchat.play import consoling_share, play_dialogs, run_selfchat
from pege.selfchat.starters import check_starters, load_starters, pick_starters

__all__ = ["check_starters", "consoling_share", "load_starters", "pick_starters", "play_dialogs", "run_selfchat"]
