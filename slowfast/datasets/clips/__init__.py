"""Clips: which frames, and how they become tensors."""
