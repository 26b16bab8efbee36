"""What turns a tilt series into an aligned stack and a volume: IMOD, or tiltflow's own native engine."""
