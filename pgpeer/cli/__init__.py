"""The command `pgpeer`: one file per noun, all of them clients of the database."""
