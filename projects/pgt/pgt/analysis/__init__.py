"""Truncated against full gradient."""
