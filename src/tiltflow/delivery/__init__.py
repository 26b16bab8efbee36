"""Delivery of results: inputs and output folders, publishing of files, and the portal's API."""
