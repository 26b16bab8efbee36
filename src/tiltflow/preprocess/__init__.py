"""What is done to raw views before anything else looks at them: x-ray hits, bad views, patterns of the camera, binning."""
