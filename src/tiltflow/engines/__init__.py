"""Engines: they turn a tilt series into an aligned stack and a volume, by IMOD or by tiltflow's own steps."""
