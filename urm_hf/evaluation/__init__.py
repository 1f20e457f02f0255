"""How good a reward model is, how honest its uncertainty is, and what filtering by it buys."""
