"""pgpeer: version control and peer-to-peer exchange for the rows of ordinary PostgreSQL tables.

This module stays light: it imports nothing of the package. The README lists the rooms; programs use the SQL
functions of schema `peer`, the command `pgpeer`, or the rooms themselves.
"""

__version__ = "0.1.0"
