"""What people look at: movies, pictures, volumes and the pyramid, listed in one catalogue."""
