"""Prefect wraps the steps of tiltflow's pipeline; importing this package has no side effects."""
