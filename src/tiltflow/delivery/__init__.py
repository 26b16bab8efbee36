"""From finished products to the assets tree and the portal's API."""
