"""One module per DVC stage, plus what the stages share."""

import os

# Before TensorFlow is imported: without AVX-512 it leaves oneDNN off, and then the gradients of ResNet50's convolutions
# take three times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
