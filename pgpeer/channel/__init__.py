"""Application connections between two peers: a state machine that does no I/O."""
