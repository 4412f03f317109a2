"""`python -m pgpeer.cli` is the command `pgpeer`."""

from pgpeer.cli.main import main

main()
