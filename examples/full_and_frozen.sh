#!/usr/bin/env bash
# A reward model that trains in full, and a URM on it twice: all of its weights trained, and heads on a frozen body.
#
#   examples/full_and_frozen.sh BASE ratings.jsonl pairs.jsonl OUT "attribute attribute ..." [pairs to test on ...]
#
# BASE is a causal LM. Both files have a column `split` with train, validation and test. SEED (0), RATE (5e-5, of what
# trains in full), EPOCHS (3, over the ratings) and STEPS (400, of the gate) may be set.
set -euo pipefail
base=$1 ratings=$2 pairs=$3 out=$4 attributes=$5
shift 5
seed=${SEED:-0} rate=${RATE:-5e-5} epochs=${EPOCHS:-3} steps=${STEPS:-400}
common=(--seed "$seed" --report_to none --save_strategy no --logging_steps 10 --max_length 512 --truncation left
    --gradient_checkpointing false)
mkdir -p "$out"

# 1. Bradley-Terry, the loss of TRL's RewardTrainer, on packs.
urm train reward --model "$base" --data "$pairs" --eval_split validation --out "$out/reward" "${common[@]}" \
    --learning_rate "$rate" --per_device_train_batch_size 16 --num_train_epochs 1 --eval_strategy epoch

# 2. The attribute stage on that model: in full, and its frozen twin.
urm train attributes --model "$out/reward" --data "$ratings" --attributes $attributes --eval_split validation \
    --out "$out/full-attributes" "${common[@]}" --learning_rate "$rate" --num_train_epochs "$epochs" \
    --max_tokens_per_step 2048 --eval_strategy epoch
urm train attributes --model "$out/reward" --data "$ratings" --attributes $attributes --eval_split validation \
    --out "$out/frozen-attributes" "${common[@]}" --freeze_backbone

# 3. The gate of each on the same pairs.
for body in full frozen; do
    urm train gating --model "$out/$body-attributes" --data "$pairs" --eval_split validation --out "$out/$body" \
        "${common[@]}" --max_steps "$steps"
done

# 4. Ratings and pairs that none of them has seen.
long=(--max-length 512 --truncation left)
urm evaluate "$out/full" "$out/frozen" --data "$ratings" --split test --out "$out/ratings" "${long[@]}"
urm evaluate "$out/reward" "$out/full" "$out/frozen" --data "$pairs" "$@" --split test --out "$out/pairs" "${long[@]}"
