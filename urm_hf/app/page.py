"""The page itself, in Gradio. Nothing is loaded from elsewhere and nothing is reported to anybody."""

import os
from typing import Any

# read when gradio is imported, and by what it imports
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from urm_hf.app.batch import HEADINGS, build_table, score_file, write_files
from urm_hf.app.familiar import FamiliarSet
from urm_hf.app.inputs import FILE_ENDINGS, build_row, fill_boxes
from urm_hf.app.pictures import find_scales
from urm_hf.app.results import CSS, show_comparison, show_error
from urm_hf.app.words import NAMES
from urm_hf.data.errors import RowError
from urm_hf.scoring.scorer import RewardScorer

EXAMPLES = [
    ["What is 2 + 2?", "It is 4: two and two more make four.", "It is 5."],
    [
        "How do I get rid of the smell of onions on a cutting board?",
        "Scrub it with coarse salt and half a lemon, wait five minutes, rinse with hot water and let it dry.",
        "The Danube rises in the Black Forest and flows through ten countries.",
    ],
    ["asdf qwer", "zxcv lkjh poiu mnbv qazw sxed", "21343 * 39414"],
]
HOUR = 3600  # seconds after which what a visitor uploaded is removed
# of the visitor's machine: a page that is shown offline can fetch none
FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


class Desk:
    """
    What the page's buttons do.

    Args:
        scorer ([`RewardScorer`]): the model.
        familiar ([`FamiliarSet`], *optional*): what "unfamiliar" is told by.
        max_rows (`int`): of an uploaded file, the most rows that are scored.
    """

    def __init__(self, scorer: RewardScorer, familiar: FamiliarSet | None, max_rows: int):
        self.scorer, self.familiar, self.max_rows = scorer, familiar, max_rows
        self.scales = find_scales(scorer.model)

    def compare(self, prompt: str, answer_a: str, answer_b: str) -> str:
        """The comparison as HTML, or what is wrong."""
        try:
            rows = [build_row(prompt, text, name) for text, name in zip((answer_a, answer_b), NAMES, strict=True)]
            return show_comparison(self.scorer.score(rows), self.scales, self.familiar)
        except RowError as error:
            number = error.row if error.row is not None else 0
            return show_error(ValueError(str(error).replace(f"row {number}", f"Answer {NAMES[number]}", 1)))
        except ValueError as error:
            return show_error(error)

    def take_row(self, path: str | None, number: float | None) -> tuple[Any, Any, Any, str]:
        """Texts for the three boxes, and what there is to say; on a fault the boxes stay."""
        try:
            if path is None:
                raise ValueError("Choose a file first.")
            *texts, is_plain = fill_boxes(path, int(number or 0))
            told = "This row is plain text. Here it is scored as a conversation, which gives other rewards."
            return texts[0], texts[1], texts[2], f'<div class="urm"><p>{told}</p></div>' if is_plain else ""
        except (ValueError, OSError) as error:
            return gr.skip(), gr.skip(), gr.skip(), show_error(error)

    def score_batch(self, path: str | None) -> tuple[str, Any, Any]:
        """A sentence, the table, and the files to download."""
        try:
            if path is None:
                raise ValueError("Choose a file first.")
            rows = score_file(self.scorer, path, self.max_rows, self.familiar)
        except (ValueError, OSError) as error:
            return show_error(error), gr.update(visible=False), gr.update(visible=False)
        failed = sum(row.error is not None for row in rows)
        told = f"{len(rows) - failed} conversations scored, {failed} not; of a file the first {self.max_rows} rows."
        table = gr.update(value=build_table(rows), visible=True)
        return f'<div class="urm"><p>{told}</p></div>', table, gr.update(value=write_files(rows), visible=True)


def build_page(
    scorer: RewardScorer, name: str, familiar: FamiliarSet | None = None, max_rows: int = 1000
) -> gr.Blocks:
    """
    The page, which `launch_page` or a server of your own shows.

    Args:
        scorer ([`RewardScorer`]): the model.
        name (`str`): what the model is called.
        familiar ([`FamiliarSet`], *optional*): what "unfamiliar" is told by.
        max_rows (`int`, *optional*, defaults to 1000): of an uploaded file, the most rows that are scored.
    """
    desk = Desk(scorer, familiar, max_rows)
    with gr.Blocks(title=f"{name} – urm", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(f"# {name}\nA reward model that says how sure it is: write a prompt and two answers.")
        with gr.Tab("Two answers"):
            _add_comparison(desk)
        with gr.Tab("A file"):
            _add_batch(desk)
    return page


def _add_comparison(desk: Desk):
    prompt = gr.Textbox(label="Prompt", lines=2, info="A conversation of several turns is written as JSON messages.")
    with gr.Row():
        answers = [gr.Textbox(label=f"Answer {name}", lines=4) for name in NAMES]
    compare = gr.Button("Compare", variant="primary")
    result = gr.HTML()
    boxes = [prompt, *answers]
    gr.Examples(EXAMPLES, inputs=boxes, cache_examples=False, api_visibility="private")
    with gr.Accordion("Take a row from a file", open=False):
        file = gr.File(label="A file of rows", file_types=FILE_ENDINGS, height=140)
        number = gr.Number(label="Row, from 0", value=0, precision=0, minimum=0)
        take = gr.Button("Take this row")
    compare.click(desk.compare, boxes, result, concurrency_limit=1, api_name="compare")
    take.click(desk.take_row, [file, number], [*boxes, result], api_visibility="private")


def _add_batch(desk: Desk):
    gr.Markdown(
        "Every conversation of a file is scored: JSON lines, JSON, Parquet or CSV, with `prompt` and `response`, with "
        f"`chosen` and `rejected`, or in another form of docs/data.md. At most {desk.max_rows} rows."
    )
    file = gr.File(label="A file of rows", file_types=FILE_ENDINGS, height=140)
    score = gr.Button("Score", variant="primary")
    told = gr.HTML()
    table = gr.Dataframe(headers=HEADINGS, visible=False, interactive=False, wrap=True, label="Scores")
    files = gr.File(label="Download", visible=False, interactive=False)
    score.click(desk.score_batch, file, [told, table, files], concurrency_limit=1, api_visibility="private")


def launch_page(page: gr.Blocks, host: str, port: int | None, *, max_file_mb: int = 32, wait: bool = True) -> str:
    """
    Shows the page until it is interrupted.

    Args:
        page (`gr.Blocks`): as [`build_page`] made it.
        host (`str`): where to listen.
        port (`int`, *optional*): None takes the first free one from 7860.
        max_file_mb (`int`, *optional*, defaults to 32): the largest upload, in megabytes.
        wait (`bool`, *optional*, defaults to `True`): whether to return only after an interruption.

    Returns:
        `str`: its address.

    Raises:
        OSError: the port is taken.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        ssr_mode=False,
        footer_links=[],
        max_file_size=f"{max_file_mb}mb",
        theme=gr.themes.Default(**FONTS),
        css=CSS,
        prevent_thread_lock=True,
    )
    if wait:
        page.block_thread()
    return address
