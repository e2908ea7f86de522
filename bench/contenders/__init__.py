"""What users would serve the custom network with instead, one small server a module, for bench/serving.py."""
