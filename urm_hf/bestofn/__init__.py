"""
Best of n: choosing answers, and how good that is for every n.

The folder is called `bestofn`, as its command is, because `urm_hf.best_of_n` is the public function: a sub-package of
that name would take its place in `urm_hf` as soon as it is imported.
"""
