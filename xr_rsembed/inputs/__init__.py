"""From a user's scene to inputs that an encoder may see: what the bands are, what the numbers mean, what is valid."""
