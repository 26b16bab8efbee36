"""IMOD's batchruntomo as an engine."""
