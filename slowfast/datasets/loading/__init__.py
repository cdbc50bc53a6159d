"""Batches, their order, and unreadable files."""
