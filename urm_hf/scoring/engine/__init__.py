"""The scoring engine: token ids in, hidden states and heads out, no padding and no prefix twice."""
