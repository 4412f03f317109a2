"""The only door to the network: links that carry frames between two peers, and the way to the hub."""
