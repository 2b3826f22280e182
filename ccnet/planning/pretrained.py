"""Whether a backbone can start from published weights."""

from ccnet.backbones.pretrained import IMAGENET, fetch
from ccnet.planning.choices import Choice

FLAG = "model.pretrained"


def choose_pretrained(backbone: str, stem: str | None = None) -> Choice:
    """ImageNet weights where they are known and can be had, which downloads them; else none."""
    key = (backbone, stem or "plain")
    if key not in IMAGENET:
        return Choice(FLAG, None, f"no ImageNet weights of {backbone} are known", is_warning=True)
    try:
        fetch(IMAGENET[key])
    except OSError as error:
        reason = f"TRAINS FROM NOTHING, with a much lower score: {error}"
        return Choice(FLAG, None, reason, is_warning=True)
    return Choice(FLAG, "imagenet", "a backbone that has learned from photographs learns faster")
