"""The products: movies, pictures, volumes and the pyramid, listed in one catalogue."""
