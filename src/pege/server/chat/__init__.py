"""The web chat: pages around the server's one service, and the dialogs that people choose to keep (docs/web-chat.md)."""
