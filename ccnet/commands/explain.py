"""`ccnet explain`."""

import re
from pathlib import Path
from typing import Literal

from ccnet.prediction.protocol import AS_VALIDATED, ProtocolChoice

PIXEL = re.compile(r"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*", re.ASCII)


def explain(
    model: Path,
    image: Path,
    at: str | None = None,
    to: str | None = None,
    output: Path = Path("explanation"),
    passes: int | None = None,
    animation: Literal["gif", "mp4", "none"] = "gif",
    device: str = "auto",
    views: ProtocolChoice = AS_VALIDATED,
) -> int:
    """Show where one pixel of an image looks, and what speaks for its class.

    Writes pictures, an animation, their numbers and one page with all of them, OUTPUT/index.html.
    The network sees the image as in `ccnet predict`, upright and at the scale nearest to 1: whole,
    or of an image of more than 16 million pixels, or with --tile, the tile around the pixel.

        ccnet explain runs/mine/model photo.jpg --at 320,180
        ccnet explain runs/mine/model photo.jpg --at 320,180 --to 40,60 --output why

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        image: File of the image.
        at: The pixel as x,y: column and row in the upright image, from 0 at the top left.
        to: A second pixel x,y. One more picture then shows how the first one learns of it in two
            passes, through the two corners.
        output: Folder for the results. Files of the same names are replaced, others stay.
        passes: Number of the last passes of attention to explain. Unless given, all.
        animation: Format of the animation: gif, mp4 (needs the extra video), or none.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
    """
    from ccnet.explanation import explain
    from ccnet.explanation.explaining import require_passes
    from ccnet.explanation.output import write_explanation
    from ccnet.images.reading import read_image
    from ccnet.images.video import import_av
    from ccnet.prediction.predictor import Predictor
    from ccnet.report.gallery import as_rgb
    from ccnet.runtime.progress import CountProgress

    if at is None:
        raise ValueError("there is no --at; it is the pixel to explain, such as --at 320,180")
    point, other = pixel_of("at", at), None if to is None else pixel_of("to", to)
    if animation == "mp4":
        import_av(output / "propagation.mp4")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; give the name of a folder")
    predictor = Predictor(model, device=device, protocol=views.chosen())
    try:
        require_passes(predictor.model.head.attention.recurrence, passes)
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error
    pixels = read_image(image, predictor.model.in_channels)
    with CountProgress("explaining") as progress:
        try:
            explanation = explain(predictor, pixels, point, passes=passes, to=other)
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from error
        page = write_explanation(
            output,
            as_rgb(pixels),
            explanation,
            facts={"model": str(model), "image": str(image), "protocol": str(predictor.protocol)},
            animation=animation,
            progress=progress,
        )
    share = explanation.probabilities[explanation.class_index]
    print(f"pixel {point[0]},{point[1]}: {explanation.class_name} ({100 * share:.1f} %)")
    print(f"{page} opens in a browser")
    return 0


def pixel_of(flag: str, text: str) -> tuple[int, int]:
    """The pixel (x, y) that a flag names; raises ValueError for anything else."""
    from ccnet.runtime.files import shown

    found = PIXEL.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{flag} must be x,y, two whole numbers such as 320,180; got {shown(text)}"
        )
    return int(found[1]), int(found[2])
