"""Persons in videos: boxes by an ONNX detector, identities over time by a tracker, files of boxes for AVA."""
