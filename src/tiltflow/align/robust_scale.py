"""The one number that robust standard deviations share."""

from __future__ import annotations

SD_OF_MEDIAN = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation, 1 / 0.6745."""
