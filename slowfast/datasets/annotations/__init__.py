"""Readers of published annotation files; a wrong line is named with file, number and text."""
