"""Programs for who maintains the project: tables and pictures of the docs, publishing a network."""
