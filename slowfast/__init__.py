"""Framework for training video models."""
