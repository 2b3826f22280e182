"""Find the files of a saved model: in a folder, in the folder of a run, or on the hub."""

import logging
import re
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE

LOG = logging.getLogger(__name__)

HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
MODEL_FILES = (CONFIG_NAME, SAFETENSORS_SINGLE_FILE, "README.md")
"""What a saved model consists of; README.md is its card."""
RUN_MODEL = "model"
"""Where a training run keeps its best model."""


def find_model_files(model: str | Path, **download: Any) -> tuple[Path, Path]:
    """The paths of config.json and model.safetensors.

    Args:
        model: the folder of a model, that of a training run, whose best model is meant, or an id
            on the hub, such as owner/name. Something that looks like an id is a folder if its
            parent folder exists.
        download: options of `huggingface_hub.hf_hub_download`, such as `revision`.

    Raises:
        FileNotFoundError: there is no such folder, it lacks one of the files, or the hub has no
            such model or cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        return _files_in(path)
    if path.exists():
        raise FileNotFoundError(
            f"no model folder at {path}: it is a file; give the folder that holds {CONFIG_NAME}, "
            "or turn published weights into a folder with `ccnet convert`"
        )
    if not re.fullmatch(HUB_ID, str(model)) or path.parent.exists():
        raise FileNotFoundError(f"no model folder at {path}")
    try:
        config, weights = (
            hf_hub_download(str(model), name, **download)
            for name in (CONFIG_NAME, SAFETENSORS_SINGLE_FILE)
        )
    except (OSError, ValueError) as error:  # no such id or no network; not a valid id
        raise FileNotFoundError(
            f"no model folder at {path}, and none of that name from the hub: {error}"
        ) from error
    return Path(config), Path(weights)


def _files_in(folder: Path) -> tuple[Path, Path]:
    if not (folder / CONFIG_NAME).exists() and (folder / RUN_MODEL / CONFIG_NAME).is_file():
        LOG.warning("%s is the folder of a run; reading its model from %s", folder, RUN_MODEL)
        folder = folder / RUN_MODEL
    for name in (CONFIG_NAME, SAFETENSORS_SINGLE_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} is no model folder: it has no {name}; a training run keeps its best "
                f"model in the folder `{RUN_MODEL}` inside it"
            )
    return folder / CONFIG_NAME, folder / SAFETENSORS_SINGLE_FILE
