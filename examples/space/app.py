"""
A Hugging Face Space that shows a reward model with its uncertainty.

The Space's variables say what to show: URM_MODEL is a repository (members of an ensemble joined by commas), and
URM_FAMILIAR, if you set it, a file in the Space with conversations like the model's training data.
"""

import os

from urm_hf import RewardScorer
from urm_hf.app import page
from urm_hf.cli.app import read_familiar

# members of an ensemble are joined by commas, as on the command line
members = os.environ["URM_MODEL"].split(",")
scorer = RewardScorer(members if len(members) > 1 else members[0])
familiar = read_familiar(scorer, os.environ.get("URM_FAMILIAR"))
built = page.build_page(scorer, os.environ["URM_MODEL"], familiar, max_rows=200)
# a Space is a container whose port 7860 the Hub opens to visitors
page.launch_page(built, "0.0.0.0", 7860, max_file_mb=8)
