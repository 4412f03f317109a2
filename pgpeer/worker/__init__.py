"""The caretaker of one database: seals, signs, sends, receives, merges, and reports."""
