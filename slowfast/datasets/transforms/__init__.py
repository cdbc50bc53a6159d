"""Transforms of pixels and boxes, and augmentation."""
