"""The recipes of examples/recipes that tests launch: their stage, their file, and what makes them small enough."""

STAGES = {
    "attributes": ("attributes", "urm_llama31_8b_helpsteer2.yaml", ["--learning_rate", "1e-3", "--plots", "false"]),
    "lora": ("attributes", "urm_8b_lora.yaml", ["--gradient_accumulation_steps", "2"]),
    "gating": ("gating", "gate_skywork_80k.yaml", ["--eval_rows_held_out", "16", "--eval_steps", "2"]),
}
