"""Image files and arrays: reading, colors."""
