"""Cross-validation: every image is tested once, by networks that have seen no image of its group."""
