"""Members and strangers who attack a running worker over real links: typed errors, nothing changed, no harm."""
