"""What the trainers put on the Hub: whole repositories, with a card that says what was trained."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.dynamic_module_utils import custom_object_save

from urm_hf.modeling import URMForRewardModeling
from urm_hf.modeling.tokenizer_urm import rewrite_for_transformers_4


class PublishesWholeModels:
    """
    For a TRL trainer of URMs: its card, and its pushes.

    `push_to_hub` uploads what `urm_hf.hub.push` does, in one commit. Pushes during training (`push_to_hub=True` with a
    `hub_strategy` other than "end") are transformers' own: weights, config, code, tokenizer and card, but no reference
    scores, and the arguments of the run as a pickle, which the last push removes. Private: `hub_private_repo`.
    """

    # of the trainer that it is mixed into
    args: Any
    state: Any
    control: Any
    callback_handler: Any
    hub_model_id: str | None
    init_hf_repo: Any
    is_world_process_zero: Any
    save_model: Any
    _finish_current_push: Any

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        rewrite_for_transformers_4(output_dir or self.args.output_dir)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        """Writes README.md, unless somebody edited it, and the code files that a pushed checkpoint needs."""
        if not self.is_world_process_zero():
            return
        from urm_hf.hub.card.card import is_generated, model_card

        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        custom_object_save(URMForRewardModeling, folder)
        path = folder / "README.md"
        if path.is_file() and not is_generated(path.read_text(encoding="utf-8")):
            return
        card = model_card(
            self.model.config.to_dict(),
            self.hub_model_id or model_name or folder.resolve().name,
            results=self._read_last_results(),
            datasets=[dataset_name] if dataset_name else None,
            tags=[tags] if isinstance(tags, str) else tags or [],
        )
        path.write_text(str(card), encoding="utf-8")

    def _read_last_results(self):
        """Results of the last evaluation."""
        from urm_hf.hub.card.result_files import of_evaluation

        for entry in reversed(self.state.log_history):
            if any(key.startswith("eval_") for key in entry):
                # the length of a stream is not known
                rows = {"eval_samples": len(self.eval_dataset)} if hasattr(self.eval_dataset, "num_rows") else {}
                return of_evaluation(entry | rows)
        return []

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        As in transformers, but the repository is complete (see `urm_hf.hub.push`).

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): of the commit.
            blocking (`bool`, *optional*, defaults to `True`): whether to wait for the upload.
            token (`str`, *optional*): in place of `args.hub_token`.
            revision (`str`, *optional*): the branch, in place of `args.hub_revision`.
            private (`bool`, *optional*): of a repository that is made here.
            kwargs: `tags` and `dataset_name`, for the card.

        Returns:
            The `CommitInfo`, or a future of it; None in all processes but the first.
        """
        if hasattr(self.callback_handler, "on_push_begin"):  # transformers 5
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token or self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        from urm_hf.hub.publish import push

        # a push of a checkpoint that is still under way would land after this one, and undo it
        self._finish_current_push()
        tags, dataset = kwargs.get("tags") or [], kwargs.get("dataset_name")
        about = {
            "card_tags": [tags] if isinstance(tags, str) else tags,
            "datasets": [dataset] if dataset else None,
            "results": self._read_last_results() or None,
        }
        place = {"private": None, "revision": revision or self.args.hub_revision, "token": token}

        def upload():
            folder, name = self.args.output_dir, self.hub_model_id
            return push(folder, name, commit_message=commit_message, **place, **about).commit_info

        return upload() if blocking else HfApi().run_as_future(upload)
