"""One module a network: how it is built and trained."""
