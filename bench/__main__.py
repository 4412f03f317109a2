"""The entry point of `python -m bench`."""

from bench.command import main

main()
