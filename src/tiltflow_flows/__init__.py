"""Prefect wraps the steps of tiltflow's pipeline; importing this package does nothing but define."""
