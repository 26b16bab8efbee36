"""Compiled loops over arrays and scalars: no checks, no allocation, no I/O, no decisions.

Every kernel is serial and releases the interpreter lock (`nogil=True`); stages run several at once through
:mod:`tiltflow.parallel`.  numba's own thread pool is not used: its portable layer aborts when two series run at once.
"""
