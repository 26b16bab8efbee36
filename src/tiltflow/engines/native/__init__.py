"""tiltflow's own engine: everything from raw views to the volume, with nothing installed beyond Python packages."""
