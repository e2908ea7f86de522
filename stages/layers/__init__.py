"""What networks are made of and what is served of them."""
