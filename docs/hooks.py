"""For MkDocs: links that leave docs/, which GitHub follows, are looked up and become names of files on the site."""

import re
from pathlib import Path

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#\s]+)(?:#[^)\s]*)?\)")
ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, page, config, files) -> str:
    """
    Raises:
        FileNotFoundError: a link leads nowhere.
    """

    def replace(link: re.Match) -> str:
        text, path = link.groups()
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"docs/{page.file.src_path} links to {path}, which does not exist.")
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"
        return text if text.startswith("`") else f"`{text}`"

    return OUTSIDE.sub(replace, markdown)
