"""Gold beads erased from the aligned views, so that they leave no streaks in the volume: where they are, and what takes their place."""
