"""Tilt series whose geometry is known, for demonstrations, tests and benchmarks."""
