"""From aligned views to the volume: aligned stack, weighted back-projection, SIRT, half volumes, trimming."""
