"""Pictures of what a model sees: Grad-CAM, weights, activations, confusion matrices."""
