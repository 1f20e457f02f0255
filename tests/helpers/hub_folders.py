"""A Hub on loopback, and a complete folder to push to it."""

import json
from pathlib import Path

from tests.helpers.hub_server import hub, module_hub  # noqa: F401  (fixtures)

TWO = {"attributes": ["help", "depth"]}
WHOLE = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "urm_reference_scores.json", "urm_reference_scores.png", "modeling_urm.py"),
    *("configuration_urm.py", "backbone_urm.py", "card_urm.py", "distributions_urm.py", "head_urm.py"),
    *("checks_urm.py", "hub_place_urm.py", "base_urm.py", "fingerprint_urm.py"),
}
PLACEHOLDERS = ["More Information Needed", "[optional]", "{{", "None", "nan", "TODO"]


def edit_config(folder: Path, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
