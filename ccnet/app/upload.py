"""The field for an image file, which takes only what was uploaded to the page."""

from pathlib import Path

import gradio as gr


class Upload(gr.File):
    """Gradio's field for a file, without its fetching of addresses for its clients."""

    is_template = True  # Gradio takes the field's own program for the browser

    async def async_move_resource_to_block_cache(
        self, url_or_file_path: str | Path | None
    ) -> str | None:
        """The path itself, if it is that of a file in the page's storage; else raises gr.Error."""
        if url_or_file_path is None:
            return None
        try:
            path = Path(url_or_file_path).resolve()
            is_own = path.is_relative_to(self.GRADIO_CACHE) and path.is_file()
        except (OSError, ValueError):  # a name that is too long or has a NUL character
            is_own = False
        if not is_own:
            raise gr.Error("the page keeps no such file; upload it", print_exception=False)
        return str(path)
