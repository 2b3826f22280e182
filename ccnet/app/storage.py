"""The temporary folder of the page: uploads and pictures, of bounded size, removed at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_BYTES = 1_000_000_000
"""Of the files that are kept; the oldest are removed first."""
MAX_FILES = 2000
"""That are kept; Gradio leaves an empty one for each request."""
EXAMPLES = "examples"
"""The subfolder of the example images, which stay."""


class Storage:
    """Files of the page in a folder of their own.

    Args:
        folder: is there already.
        max_bytes: of the files that are kept, those of the examples not counted.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.examples = folder / EXAMPLES
        self.examples.mkdir(exist_ok=True)

    def new_folder(self) -> Path:
        """An empty folder for the files of one request; others are removed if room is short."""
        self.prune()
        return Path(tempfile.mkdtemp(dir=self.folder))

    def prune(self) -> None:
        """Remove the oldest files until the others fit, and the folders that are empty then."""
        found, folders = [], []
        for parent, names, files in os.walk(self.folder):
            if Path(parent) == self.folder:
                names.remove(EXAMPLES)
            folders += [Path(parent, name) for name in names]
            for name in files:
                with suppress(FileNotFoundError):  # another thread may remove one
                    facts = Path(parent, name).stat()
                    found.append((facts.st_mtime, facts.st_size, Path(parent, name)))
        size = sum(size for _, size, _ in found)
        if size <= self.max_bytes and len(found) <= MAX_FILES:
            return
        for number, (_, own, path) in enumerate(sorted(found), start=1):
            path.unlink(missing_ok=True)
            size -= own
            # half of each, so that not every request has to remove some
            if size <= self.max_bytes // 2 and len(found) - number <= MAX_FILES // 2:
                break
        for folder in reversed(folders):
            with suppress(OSError):  # it holds files
                folder.rmdir()


@contextmanager
def temporary_storage(max_bytes: int = MAX_BYTES) -> Iterator[Storage]:
    """A storage whose folder is removed at the end, with Gradio's environment set for it.

    Gradio reads from these variables where it stores uploads, whether it reports its use to its
    makers, and after how many requests it makes statistics; when it is imported and later.
    """
    folder = Path(tempfile.mkdtemp(prefix="ccnet-app-")).resolve()
    variables = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / EXAMPLES),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9),
    }
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield Storage(folder, max_bytes)
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        shutil.rmtree(folder, ignore_errors=True)
