"""The page behind `urm app`: two answers side by side, or a file of rows, and what is not known of their rewards."""
