"""Measurements of pgpeer, beside built-in logical replication in the same run. `python -m bench --help`."""
