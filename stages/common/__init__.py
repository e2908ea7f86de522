"""What every stage's command line needs."""
