"""Turns and tokenizers."""

QUESTION = {"role": "user", "content": "Name a river."}
ANSWER = {"role": "assistant", "content": "The Rhône, zum Beispiel."}
SYSTEM = {"role": "system", "content": "Be brief."}


def template_ids(tokenizer, messages: list[dict]) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])
