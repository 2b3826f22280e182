"""Asks a running `ccnet app` over HTTP: classes of an image, its files, and where a pixel looks.

Run `ccnet app MODEL` first, and then: python examples/app_client.py IMAGE --pixel 20,30

Needs gradio_client (`pip install gradio_client`), neither ccnet nor PyTorch.
"""

import argparse
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file


def ask(url: str, image: Path, pixel: tuple[int, int], output: Path) -> tuple[dict, dict]:
    """The facts about an image and about one of its pixels; files go to a folder of `output`."""
    client = Client(url, download_files=output, verbose=False, analytics_enabled=False)
    file: Any = handle_file(image)
    common = {"image": file, "model": "", "protocol": "as validated"}  # "": the first model
    facts, files = client.predict(**common, opacity=50, api_name="/segment")
    x, y = pixel
    of_pixel, maps = client.predict(**common, x=x, y=y, api_name="/explain")
    return {**facts, "files": files}, {**of_pixel, "files": maps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--pixel", default="0,0", help="x,y")
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--output", type=Path, default=Path("downloads"))
    given = parser.parse_args()
    x, y = map(int, given.pixel.split(","))
    facts, of_pixel = ask(given.url, given.image, (x, y), given.output)
    for name, share in facts["shares"].items():
        print(f"{share:7.1%}  {name}")
    print(f"pixel {x},{y}: {of_pixel['class']}, {of_pixel['probabilities']}")
    print(*facts["files"], *of_pixel["files"], sep="\n")


if __name__ == "__main__":
    main()
