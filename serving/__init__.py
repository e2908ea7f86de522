"""Finds and runs a Triton server for the exported model repository.

    python -m serving --repository model_repository
"""
