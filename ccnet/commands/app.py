"""`ccnet app`."""

from pathlib import Path
from typing import Annotated

from ccnet.config import Precision
from ccnet.runtime.values import Between

DEMO = Path("runs/demo")


def app(
    model: str | None = None,
    compare: str | None = None,
    examples: Path | None = None,
    report: Path | None = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Between(0, 65535)] = 7860,
    max_pixels: Annotated[int, Between(1, 1 << 30)] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> int:
    """Explore a trained model in a browser.

    Serves a page on this machine, for an image of yours or an example: the classes over the image,
    the share of each class, and for a pixel that you click its probabilities and what it draws on
    in each pass of attention. Files to download: label map, overlay, polygons. Nothing is sent to
    another machine, and uploads are removed at the end. Needs the extra `app`.

        ccnet app runs/mine/model
        ccnet app runs/old/model --compare runs/new/model --examples PHOTOS
        ccnet app runs/mine/model --report report

    Args:
        model: Model folder, or an id on the Hugging Face hub. Unless given, that of `ccnet demo`.
        compare: Second model, shown beside the first.
        examples: Folder of pictures to choose from; the first 12 are offered. Unless given, those
            of `ccnet demo` for its model.
        report: Folder of `ccnet evaluate --report`, whose page of errors opens from this page.
        host: Address to answer at. 0.0.0.0 is every address of this machine: anyone who reaches it
            can use the page.
        port: Port to answer at; 0 takes a free one.
        max_pixels: Pixels of an image at most, less for many classes or large scales. Unless given,
            16 million.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        precision: Number format of the network; auto is bfloat16 where that is faster, or float32.
    """
    from ccnet.app.storage import temporary_storage
    from ccnet.images.reading import image_files
    from ccnet.runtime.files import DataError, require_folder

    if model is None:
        model = demo_model()
        images = DEMO / "images"
        examples = images if examples is None and images.is_dir() else examples
    chosen: list[Path] = []
    if examples is not None:
        require_folder(examples)
        chosen = list(image_files(examples))[:12]
    if report is not None and not (report / "report.html").is_file():
        raise DataError(
            f"{report}: there is no report.html in it; "
            f"`ccnet evaluate MODEL --root FOLDER --report {report}` makes one.",
            path=report,
        )
    with temporary_storage() as storage:
        try:
            from ccnet.app.loading import PageModel
            from ccnet.app.results import MAX_PIXELS
            from ccnet.app.server import serve
        except ModuleNotFoundError as error:
            raise ImportError(
                f"ccnet app needs {error.name}; pip install 'criss-cross[app]' installs it"
            ) from error
        serve(
            [PageModel(name) for name in dict.fromkeys([model, compare]) if name is not None],
            storage,
            examples=chosen,
            report=report,
            host=host,
            port=port,
            device=device,
            precision=precision,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        )
    return 0


def demo_model() -> str:
    """The model of `ccnet demo`; raises ValueError, which says how to make it, if there is none."""
    path = DEMO / "model"
    if not path.is_dir():
        raise ValueError(
            f"there is no MODEL, and no {path} either: `ccnet demo` makes that one in a minute or "
            "two, and `ccnet app MODEL` shows any other"
        )
    return str(path)
