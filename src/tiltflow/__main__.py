"""`python -m tiltflow` is the `tiltflow` command."""

from tiltflow.cli import process

process()
