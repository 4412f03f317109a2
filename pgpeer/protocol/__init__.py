"""One conversation between two peers, sans-I/O: bytes and the time go in; bytes and events come out."""
