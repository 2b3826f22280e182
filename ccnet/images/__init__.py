"""Image files as arrays, and labels as colors."""
