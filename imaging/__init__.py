"""Reading images safely, and the facts that all parts of the project share. Imports no other part and no TensorFlow."""
