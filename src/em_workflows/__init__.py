"""Orchestration of tiltflow with Prefect; importing it does nothing but define."""
