"""One module per DVC stage, plus what the stages share."""
