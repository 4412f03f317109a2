"""Who a peer is: its Ed25519 key, the peer id derived from it, its key file, and the invites it gives."""
