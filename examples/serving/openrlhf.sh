#!/bin/sh
# PPO of OpenRLHF with `urm serve` as its reward model: the server repairs the ends of its texts.
#     URM_SERVE_TOKEN=... urm serve org/urm-ensemble --host 0.0.0.0 --measure reward_gap --coefficient 0.5
# OpenRLHF sends no headers, so the token stands in the URL, where its client takes it for a password.
set -e
python -m openrlhf.cli.train_ppo_ray \
    --pretrain "${POLICY:?the policy to train}" \
    --remote_rm_url "http://any:${URM_SERVE_TOKEN:-none}@${REWARD_HOST:-127.0.0.1:8770}/get_reward" \
    --prompt_data "${PROMPTS:?a data set with a column of prompts}" \
    --input_key prompt --apply_chat_template "$@"
