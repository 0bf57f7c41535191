"""What is done with published catalogues: look at them, drop them."""
