"""From a network and batches to a trained network."""
