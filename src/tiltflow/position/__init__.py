"""Where the specimen lies in the volume, how it leans and how thick it is."""

from tiltflow.position.specimen_search import PositionParams, PositionResult, position_section

__all__ = ["PositionParams", "PositionResult", "position_section"]
