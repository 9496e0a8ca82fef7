"""How much of each token every token takes in, layer by layer."""
