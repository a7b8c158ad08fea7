"""The web chat: pages around the server's one service, and what people choose to keep (docs/web-chat.md)."""
