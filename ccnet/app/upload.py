"""The field for an image file, which takes only what was uploaded to the page."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr


def new_upload(**options: Any) -> gr.File:
    """Gradio's field for a file, without its fetching of addresses for its clients.

    It is no class of its own, since Gradio writes a file beside the module of each new one.

    Args:
        options: as for `gradio.File`.
    """
    field = gr.File(**options)

    async def take(url_or_file_path: str | Path | None) -> str | None:
        if url_or_file_path is None:
            return None
        with suppress(OSError, ValueError):  # a name that is too long or has a NUL character
            path = Path(url_or_file_path).resolve()
            if path.is_relative_to(field.GRADIO_CACHE) and path.is_file():
                return str(path)
        raise gr.Error("the page keeps no such file; upload it", print_exception=False)

    field.async_move_resource_to_block_cache = take
    return field
