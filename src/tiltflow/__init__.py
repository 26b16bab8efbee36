"""tiltflow: tilt series to tomograms that people can look at, with evidence of how good they are."""

__version__ = "0.1.0"
