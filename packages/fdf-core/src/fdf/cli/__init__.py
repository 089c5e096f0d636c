"""The command line: one small module per command, each imported when it is called. Nothing imports this room."""
