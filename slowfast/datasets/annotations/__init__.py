"""Readers of published annotation files. Errors name the file, the line number and the line."""
