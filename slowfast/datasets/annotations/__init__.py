"""Readers of frame lists and of the annotation files of Kinetics."""
