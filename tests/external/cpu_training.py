"""
A plugin of pytest for the suites of other libraries: every `TrainingArguments` has `use_cpu=True`.

TRL turns bfloat16 on by default, which transformers refuses without an accelerator unless told to stay on the CPU.
Load it before anything that imports trl: its dataclasses copy the default when they are made.
"""

from transformers import TrainingArguments

TrainingArguments.__dataclass_fields__["use_cpu"].default = True
