"""Readers of frame lists and of Kinetics' files. Errors name the file, the line number and the line."""
