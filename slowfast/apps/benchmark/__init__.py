"""Size, speed and memory of models, and loading of data."""
