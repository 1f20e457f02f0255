#!/usr/bin/env bash
# The whole way: from rated rows and preference pairs to an ensemble of reward models on the Hub.
#
#   examples/pipeline.sh BASE ratings.jsonl pairs.jsonl test.jsonl org/urm [OUT]
#
# BASE is a causal LM or a reward model: a folder or a Hub repository. docs/data.md lists the forms of the three files.
# DRY_RUN=1 uploads nothing. MEMBERS, EPOCHS and STEPS (of the gate) have the defaults below.
set -euo pipefail
base=$1 ratings=$2 pairs=$3 held_out=$4 repository=$5 out=${6:-pipeline}
members=${MEMBERS:-3} epochs=${EPOCHS:-20} steps=${STEPS:-400}
mkdir -p "$out"
# heads name their backbone, so that all members fit into one small repository; a local backbone goes along with them
if [ -d "$base" ]; then whole=true; else whole=false; fi

# Settings of the two stages. Only heads train here: the backbone's hidden states are computed once for all members.
cat > "$out/attributes.yaml" <<YAML
model_name_or_path: $base
dataset_name: $ratings
freeze_backbone: true
save_backbone: $whole
num_train_epochs: $epochs
train_fraction: 0.9
save_strategy: "no"
report_to: none
YAML
cat > "$out/gating.yaml" <<YAML
dataset_name: $pairs
max_steps: $steps
train_fraction: 0.9
save_strategy: "no"
report_to: none
YAML

# 1. Train. Each member has its own seed, and its own nine tenths of the rows to disagree about.
urm train ensemble --attributes-config "$out/attributes.yaml" --gating-config "$out/gating.yaml" \
    --members "$members" --out "$out"

# 2. Look. How good is it on pairs that it has not seen, and how honest are its probabilities?
urm evaluate "$out/ensemble" --data "$held_out" --out "$out/evaluation"

# 3. Use. Every row gets a reward with its uncertainty.
urm score "$out/ensemble" --data "$held_out" --out "$out/scored.jsonl"

# 4. Share. The members go with the ensemble.
dry_run=()
if [ -n "${DRY_RUN:-}" ]; then dry_run=(--dry-run); fi
urm push "$out" "$repository" "${dry_run[@]}"
