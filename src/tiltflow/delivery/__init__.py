"""From finished work to the places and people that wait for it: folders, files, and the portal's API."""
