"""From a trained network to what Triton serves."""
