"""The `aerogel` command: one file a command, its arguments included; `app` registers them."""
