"""`python -m aerogel`."""

from aerogel.cli.app import main

main()
