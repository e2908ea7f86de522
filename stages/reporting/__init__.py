"""From numbers to pictures and texts."""
