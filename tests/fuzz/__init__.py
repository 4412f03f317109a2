"""Every decoder of bytes from outside, tried with bytes that learn from the code that they reach.

Each target gives a value that stands for the same bytes again, or its one typed error, in bounded time and
memory. `corpus/` has an input for each way through the code that was found; `found/` has the inputs that once
broke a promise. Both are tried again every time.
"""
