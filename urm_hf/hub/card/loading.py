"""The section of a model card that says how to load the model, and what its outputs mean."""

import json
from typing import Any


def loading_section(
    config: dict[str, Any], repo_id: str, tag: str | None, adapter: dict[str, Any] | None = None
) -> str:
    """With transformers alone (not an adapter) and with urm-hf, pinned to one commit."""
    pin = (
        f"revision = {json.dumps(tag)}"
        if tag
        else "revision = HfApi().model_info(repo).sha  # write it down: your results are of this commit"
    )
    hub = "" if tag else "from huggingface_hub import HfApi\n"
    ensemble = "members" in config
    outputs = (
        "print(output.logits[:, 0], output.reward_std, output.reward_gap, output.epistemic_variance)"
        if ensemble
        else "print(output.logits[:, 0], output.reward_std, output.attribute_means, output.attribute_stds)"
    )
    fields = ENSEMBLE_OUTPUTS if ensemble else OUTPUTS
    if adapter is not None:
        return _adapter_section(repo_id, hub, pin, fields)
    return f"""## Use

With transformers alone. `trust_remote_code` runs the code files of this repository; with a pinned revision they are
the ones that you can read today.

```python
import torch
{hub}from transformers import AutoModel, AutoTokenizer

repo = {json.dumps(repo_id)}
{pin}
tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision, trust_remote_code=True)
model = AutoModel.from_pretrained(repo, revision=revision, trust_remote_code=True)

conversation = [
    {{"role": "user", "content": "What is 2 + 2?"}},
    {{"role": "assistant", "content": "4: two and two make four."}},
]
inputs = tokenizer.apply_chat_template([conversation], return_tensors="pt", return_dict=True)
with torch.no_grad():
    output = model(**inputs)
{outputs}
```

With urm-hf installed no code of this repository runs; batches and padding are taken care of:

```python
from urm_hf import RewardScorer

score = RewardScorer(repo, revision=revision).score([conversation])[0]
print(score.reward, score.reward_std, score.attribute_means)
```

To TRL it is a reward model of one output: `GRPOTrainer(reward_funcs="{repo_id}")` with urm-hf installed. `urm verify
{repo_id}` loads it and compares its scores with those below.

{fields}"""


def _adapter_section(repo_id: str, hub: str, pin: str, fields: str) -> str:
    return f"""## Use

An adapter has no model class of its own, so that `AutoModel` does not load it; urm-hf (with `peft`) puts it on its
base, at the commit that adapter_config.json names. No code of this repository runs.

```python
{hub}from urm_hf import RewardScorer

repo = {json.dumps(repo_id)}
{pin}
conversation = [
    {{"role": "user", "content": "What is 2 + 2?"}},
    {{"role": "assistant", "content": "4: two and two make four."}},
]
score = RewardScorer(repo, revision=revision).score([conversation])[0]
print(score.reward, score.reward_std, score.attribute_means)
```

As a model, merged into its base:

```python
from urm_hf.checkpoints.adapters import load_adapter

model = load_adapter(repo, revision=revision)
```

With other adapters of the same base it makes an ensemble that holds the base once:
`URMEnsemble.from_pretrained([repo, ...], revisions=[revision, ...], strategy="shared")`. Saved and pushed, such an
ensemble is loaded by `AutoModel` with transformers and peft alone. To TRL it is a reward function:
`GRPOTrainer(reward_funcs=UncertaintyPenalizedReward("{repo_id}", "reward_std", 0.1))`, from `urm_hf.rl.rewards`.
`urm verify {repo_id}` loads it and compares its scores with those below.

{fields}"""


OUTPUTS = """| output | shape | meaning | higher |
|---|---|---|---|
| `logits` | (B, 1) | reward | better |
| `reward_std` | (B,) | sqrt(Σ w² σ²), in the unit of the reward | less sure |
| `attribute_means`, `attribute_stds` | (B, n) | μ and σ, on the rating scale | –, less sure |
| `gating_weights` | (B, n) | w; may be negative, need not sum to 1 | – |"""

ENSEMBLE_OUTPUTS = """| output | shape | meaning | higher |
|---|---|---|---|
| `logits` | (B, 1) | reward | better |
| `reward_gap` | (B,) | largest difference between members' rewards (Eq. 7) | less known |
| `epistemic_variance` | (B, n) | what the training data did not settle, as told below | less known |
| `aleatoric_variance` | (B, n) | mean of members' σ²: noise of the ratings | noisier |
| `covariance_norm` | (B,) | largest norm of members' covariances (Eq. 8) | noisier |
| `reward_std` | (B,) | root of the total variance of the reward over members | less sure |
| `rewards` | (M, B) | each member's reward | better |

`epistemic_variance` is the variance of members' μ and, where every member has a posterior, the mean of the variances
that these leave to μ on top of it: the law of total variance."""
