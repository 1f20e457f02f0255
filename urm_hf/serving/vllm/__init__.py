"""vLLM as the engine of a reward server: a plugin of vLLM that serves URMs and ensembles of them, and its command."""
