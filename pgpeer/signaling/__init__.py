"""One conversation with a rendezvous hub, both sides, and the signed signals that travel through it."""
