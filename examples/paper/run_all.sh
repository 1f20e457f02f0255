#!/usr/bin/env bash
# The paper from end to end: trains, measures, draws, and writes docs/paper.md. Run it again and it goes on.
#
#   examples/paper/run_all.sh laptop DATA BASE [OUT]
#   examples/paper/run_all.sh paper - - [OUT]
#
# DATA is the folder that `python examples/data/fetch.py` writes, with bestofn_alpacaeval.jsonl.gz beside it (AlpacaEval's
# published outputs and annotations, a row a prompt); BASE a SmolLM2 with its first 4 layers. `-` takes the scale's own.
set -euo pipefail
scale=$1 data=$2 base=$3 out=${4:-paper}
here=$(cd "$(dirname "$0")" && pwd)
options=(--scale "$scale" --out "$out")
if [ "$data" != - ]; then options+=(--data "$data"); fi
if [ "$base" != - ]; then options+=(--base "$base"); fi
for step in train table1 figure5 figure6c table2 figure7; do
    python "$here/$step.py" "${options[@]}"
done
# What the paper leaves to future work: a gold reward that no policy sees, on a task that two cores can train on.
python "$here/grpo.py" --out "$out/grpo"
python "$here/dpo.py" --out "$out/dpo"
base_option=()
if [ "$base" != - ]; then base_option=(--base "$base"); fi
python "$here/../overoptimisation.py" --candidates 1024 --policies 2 --test_prompts 12 --seeds 3 "${base_option[@]}" \
    --out "$out/overoptimisation"
python "$here/page.py" --out "$out" --docs "$here/../../docs"
