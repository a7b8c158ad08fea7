"""The chat server: an OpenAI-compatible API around one guarded agent. Importing this loads no web library."""
