"""Answers of a trained model about videos: `load` a checkpoint, call it with a video, or stream one."""
