"""Every block of code of every page: what it names is there, and it runs where it can run here."""

import contextlib
import io
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ccnet.backbones import create_backbone, pretrained
from ccnet.config import TrainConfig
from ccnet.datasets import Scenes, folder
from ccnet.flags import parse
from ccnet.weights import pickles
from tests.annotated import coco_content, save_image, write_json
from tests.commands import TRAIN, status, write_scenes
from tests.conftest import new_tiny_model
from tests.documentation.blocks import PAGES, ROOT, Block, blocks_of, commands_of
from tests.images.test_video import write_video
from tests.published.conftest import mmseg

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
SMALL = shlex.split("""
--model.backbone tiny --model.channels 16 --model.kernel_size 1 --model.pretrained null
--model.auxiliary_channels null --steps 2 --validate_every 2 --batch_size 2 --num_workers 0
--precision float32 --device cpu --pictures 0
""")
"""Added to the flags of a command that trains, so that it takes seconds and downloads nothing."""
NOT_RUN = {
    r"--devices [2-9]|torchrun|srun|fsdp": "several devices; tests/runtime runs two processes",
    r"CAMVID|CITYSCAPES": "a data set with a license of its own",
    r"--init models/cityscapes": "needs a network with the parts it names; tests/test_recipes.py",
    r"--model\.refinement": "needs a backbone of finer maps; tests/models/test_refinement.py",
    r"--data(?:\.name)? (?!folder)\w+": "a published data set; tests/test_commands_named.py",
    r"configs/(?!folder|small_data)\w+": "a published data set; tests/test_recipes.py",
    r"--data\.bands": "images of five bands; tests/test_commands_bands.py",
    r"^ccnet app": "serves until it is ended; tests/app",
    r"^ccnet explain": "a pixel of a photograph; tests/test_commands_explain.py",
    r"--write-names": "the folder has names already; tests/test_commands_bands.py",
    r"--minutes": "takes that time; tests/training/test_budget.py",
    r"ccnet demo|--help$": "tests/test_demo.py and tests/test_flags.py",
    r"^(?:make|pip|uv) ": "sets up an environment; .ci/run does",
    r"^python (?:benchmarks|docs|-m pytest|-m tests|-m http)": "has tests of its own, or measures",
    r"^python examples/(?!onnx)": "tests/test_examples.py",
}
"""What a command contains → why it is not run here. It is read all the same."""
ANNOTATED = ("a", "a1", "b", "b1", "c", "c1", "d", "d1")
ARRAYS = """
import numpy, torch
image = numpy.zeros((64, 64, 3), numpy.uint8)
features = torch.randn(1, 512, 5, 7)
query, key, value = torch.randn(1, 8, 5, 7), torch.randn(1, 8, 5, 7), torch.randn(1, 16, 5, 7)
"""
"""What a page may use as given: an image, a feature map, and three tensors."""


@each_page
def test_blocks_are_of_known_kinds(page):
    assert all(block.text.strip() for block in blocks_of(page))


@each_page
def test_commands_are_what_their_programs_take(page):
    for block in blocks_of(page):
        if block.kind in ("commands", "batch"):
            for command in commands_of(block.text):
                if not command.startswith("#SBATCH"):
                    require_known(command)


def require_known(command: str) -> None:
    """Raises an error for a command that its program would refuse before it begins."""
    command = re.sub(r"\s*(?:\|\||&&) .*", "", command)
    words = shlex.split(command)
    if "ccnet" in words and words[0] in ("ccnet", "torchrun", "srun"):
        arguments = words[words.index("ccnet") + 1 :]
        if arguments[-1] != "--help":
            with contextlib.chdir(ROOT):  # configs/ lies there
                parse([word for word in arguments if not word.startswith("--resume")])
        return
    match words:
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["python", "-m", "http.server" | "pytest" | "tests.fuzz", *_] | ["python", "-c", _]:
            pass
        case ["python", script, *rest]:
            text = (ROOT / script).read_text()
            flags = [word.partition("=")[0] for word in rest if word.startswith("--")]
            assert all(flag in text for flag in flags), command
        case ["pip" | "uv", *rest]:
            require_installable(rest, command)
        case _:
            raise AssertionError(f"a command of no known program: {command}")


def require_installable(words: list[str], command: str) -> None:
    """Extras and files that pip or uv is given exist."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = content["project"], content["dependency-groups"]
    for extras in re.findall(r"criss-cross\[([\w,-]+)\]|'?\.\[([\w,-]+)\]", command):
        for extra in "".join(extras).split(","):
            assert extra in project["optional-dependencies"], command
    for flag, value in itertools.pairwise(words):
        assert flag not in ("-c", "-r", "--constraint") or (ROOT / value).is_file(), command
        assert flag != "--group" or value in groups, command


def test_a_wrong_block_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n    rm -rf nothing\n")
    with pytest.raises(ValueError, match=r"page\.md:3: a block of no known kind"):
        list(blocks_of(page))
    page.write_text("Text.\n\n```js\nlet x\n```\n")
    with pytest.raises(ValueError, match="a block of js"):
        list(blocks_of(page))
    with pytest.raises(ValueError, match="such_flag"):
        require_known("ccnet train --such-flag 3")
    with pytest.raises(AssertionError):
        require_known("pip install 'criss-cross[nothing]'")
    with pytest.raises(AssertionError):
        require_known("uv sync --group nothing")
    with pytest.raises(AssertionError):
        require_known("make nothing")
    with pytest.raises(FileNotFoundError):
        require_known("python examples/nothing.py")


@each_page
def test_yaml_is_what_a_folder_or_a_run_takes(page):
    for block in blocks_of(page):
        if block.kind == "yaml":
            keys = set(yaml.safe_load(block.text))
            assert keys <= set(folder.KEYS) or keys <= set(TrainConfig.__annotations__)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder with what the pages speak of, all of it tiny."""
    root = tmp_path_factory.mktemp("workshop")
    write_scenes(root / "FOLDER")
    image, _ = Scenes()[0]
    (root / "configs").mkdir()
    (root / "configs" / "folder.yaml").write_text(TRAIN + "num_workers: 0\n")
    write_json(root / "EXPORT/annotations/instances_default.json", coco_content(ANNOTATED))
    for name in ANNOTATED:
        save_image(root / "EXPORT/images" / f"{name}.png")
    for images in ("IMAGES", "photos", "runs/demo/images"):
        save_image(root / images / "test-000000.png", (64, 64))
    Image.fromarray(np.tile(image, (2, 2, 1))).save(root / "photo.jpg")
    Image.fromarray(np.tile(image, (2, 3, 1))).save(root / "map.tif")
    write_video(root / "clip.mp4", num_frames=3)
    for run in ("demo", "mine", "old", "new", "one", "two"):
        new_tiny_model().save_pretrained(root / "runs" / run / "model")
    shutil.copytree(root / "runs" / "mine" / "model", root / "MODEL")
    torch.save(mmseg(50, 19), root / "ccnet_r50-d8_769x769_80k_cityscapes.pth")
    torch.save(mmseg(101, 19), root / "ccnet_r101-d8_769x769_80k_cityscapes.pth")
    with contextlib.chdir(root):
        train = ["train", "--config", "configs/folder.yaml", "--data.root", "FOLDER"]
        shutil.rmtree("runs/mine")
        assert status(*train, "--run", "runs/mine", *SMALL) == 0
    return root


@pytest.mark.slow
@pytest.mark.unchecked  # torch traces networks here
@pytest.mark.timeout(900)  # a compiler runs for one page
@each_page
def test_blocks_run_in_their_order(page, workshop, tmp_path, monkeypatch):
    """Python and commands run as a reader would run them, and print what the page shows."""
    root = tmp_path / "workshop"
    shutil.copytree(workshop, root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(pickles, "MAX_EXPANSION", float("inf"))  # files of `mmseg` are compact
    load = torch.hub.load  # from this checkout, which a reader's folder or a repository would be
    monkeypatch.setattr(
        torch.hub,
        "load",
        lambda _, *words, source="github": load(str(ROOT), *words, source="local"),
    )
    monkeypatch.setattr(pretrained, "fetch", lambda url: random_weights(root, url))
    given: dict[str, object] = {"__name__": page.stem}
    exec(ARRAYS, given)
    printed = ""
    if page.stem == "own_data":  # which divides a folder by groups
        unite_splits(Path("FOLDER"))
    for block in blocks_of(page):
        try:
            printed = run(block, given, printed)
        except BaseException as error:
            error.add_note(f"{page.name}:{block.line}")
            raise


def unite_splits(root: Path) -> None:
    """Make of train/images and val/images one folder, with two images of each patient."""
    for path in sorted(root.glob("*/*/*.png")):
        split, kind = path.parts[-3:-1]
        target = root / kind / f"{split}_patient{int(path.stem) // 2}_{path.stem}.png"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    for split in ("train", "val"):
        shutil.rmtree(root / split)


def run(block: Block, given: dict[str, object], printed: str) -> str:
    """Run a block, or compare the lines of one of text with what the block before printed."""
    match block.kind:
        case "python" if given["__name__"] == "datasets":  # none of them is here; tests/named
            compile(block.text, f"line {block.line}", "exec")
        case "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(block.text, f"line {block.line}", "exec"), given)
            return output.getvalue()
        case "commands":
            return "".join(run_command(command) for command in commands_of(block.text))
        case "text":
            shown = [line.strip() for line in block.text.splitlines()]
            lines = [line.strip() for line in printed.splitlines()]
            assert set(shown) <= set(lines), printed
    return printed


def run_command(command: str) -> str:
    if any(re.search(pattern, command) for pattern in NOT_RUN):
        return ""
    words = shlex.split(command)
    if words[0] == "python":
        script = [sys.executable, str(ROOT / words[1]), *words[2:]]
        return subprocess.run(script, check=True, capture_output=True, text=True).stdout
    name, *arguments = words[1:]
    if name == "train" and "--resume" not in arguments:
        if "--run" in arguments:
            shutil.rmtree(arguments[arguments.index("--run") + 1], ignore_errors=True)
        arguments += SMALL
    if name in ("import", "convert"):
        shutil.rmtree(arguments[1], ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = status(name, *arguments)
    assert code == 0, f"{command}\n{output.getvalue()}"
    return output.getvalue()


def random_weights(root: Path, url: str) -> Path:
    """Instead of a download: a file of ImageNet weights by its form, with random numbers."""
    name = re.split(r"[-_]v1c|-", Path(url).stem)[0]
    path = root / f"{name}.pth"
    torch.save(create_backbone(name).state_dict(), path)
    return path


def test_commands_that_are_not_run_exist():
    """A reason whose commands are gone would hide nothing, but mislead."""
    every = [
        command
        for page in PAGES
        for block in blocks_of(page)
        if block.kind in ("commands", "batch")
        for command in commands_of(block.text)
    ]
    for pattern in NOT_RUN:
        if not pattern.startswith("^(?:make"):
            assert any(re.search(pattern, command) for command in every), pattern
