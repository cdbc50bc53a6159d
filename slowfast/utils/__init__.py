"""Helpers without a room of their own: registry, files, tables, error messages."""
