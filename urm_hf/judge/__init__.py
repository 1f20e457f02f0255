"""An LLM as judge of two answers: the paper's protocol (appendix A.3)."""
