"""The rendezvous server: who is online, and signals between peers that the hub cannot read."""
