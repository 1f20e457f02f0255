#!/bin/sh
# The flags that give slime the rewards of `urm serve`; the others are those of your recipe.
#     urm serve org/urm-ensemble --unscorable -5
# slime raises when a sample gets no reward after ten attempts, so agree on a value for empty and too long answers.
set -e
python train.py \
    --rm-type remote_rm \
    --rm-url "http://any:${URM_SERVE_TOKEN:-none}@${REWARD_HOST:-127.0.0.1:8770}/reward" "$@"
