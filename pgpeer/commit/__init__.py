"""What a commit is outside the database: header bytes, id, signature, clock and vector."""
