"""`python -m aerogel`."""

from aerogel.cli import main

main()
