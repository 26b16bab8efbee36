"""Filters that make images and volumes easier to see: radial filters of views, deconvolution and diffusion of volumes."""
