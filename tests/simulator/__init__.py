"""Peers that talk through the real protocol rooms in virtual time; one integer decides everything.

The transport is reliable and ordered within one connection, so what goes wrong is what really goes wrong:
connections end at any frame, with or without notice; they stall; peers crash and forget all that is not
durable; groups are cut off from each other; commits come by several ways at once.
"""
