"""What all rooms agree on: the contract, files that are whole or absent, the processor. No heavy imports."""
