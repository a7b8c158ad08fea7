"""Settings of the web chat."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ChatConfig(BaseModel):
    """What `pege serve` can be told of the web chat.

    Attributes:
        chat: whether there is one.
        database: sqlite:///FILE or postgresql://USER@HOST/NAME, of the dialogs that people choose to keep; a file in
            $XDG_DATA_HOME/pege unless named here or in the environment variable PEGE_CHAT_DATABASE.
        keep_days: a kept dialog is deleted so long after its last change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    chat: bool = True
    database: str | None = None
    keep_days: float = Field(default=180.0, gt=0, le=3_650)
