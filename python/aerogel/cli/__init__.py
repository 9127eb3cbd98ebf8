"""The `aerogel` command: one file a command, its arguments included."""
