"""Bootstrap, likelihoods and metrics: numbers in, numbers out."""
