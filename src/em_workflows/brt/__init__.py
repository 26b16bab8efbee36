"""The BRT flow: batch reconstruction of tomograms."""
