"""PySlowFast's demo: the answers of a model drawn into a video, or into the pictures of a camera (section DEMO)."""
