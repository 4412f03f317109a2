"""The Python interface: a client of the worker through the database, not a second network endpoint."""
