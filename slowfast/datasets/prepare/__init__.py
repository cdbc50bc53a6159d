"""Work on whole data sets before training: lists, frames, smaller copies, and the check of every file."""
