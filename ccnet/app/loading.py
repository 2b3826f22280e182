"""The models of the page, which are loaded while the page already answers."""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ccnet.datasets.description import default_palette
from ccnet.images.colors import Palette
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.protocol import PROTOCOLS, Protocol, ProtocolName

AS_VALIDATED = "as validated"
"""Stands for the protocol of the model's validation."""


@dataclass
class PageModel:
    """A model by the name that was given for it, and its predictor once it is loaded."""

    name: str
    done: threading.Event = field(default_factory=threading.Event)
    """Set when it is loaded or cannot be."""
    computing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one request that computes with it."""
    error: BaseException | None = None
    _predictor: Predictor | None = None

    def load(self, device: str, precision: str) -> None:
        """Load the model; what is raised is kept for `predictor` to raise."""
        try:
            self._predictor = Predictor(self.name, device=device, precision=precision)
        except BaseException as error:  # of a thread: nobody else would see it
            self.error = error
        finally:
            self.done.set()

    @property
    def predictor(self) -> Predictor:
        """Waits for the model; raises what loading it raised."""
        self.done.wait()
        if self.error is not None:
            raise self.error
        assert self._predictor is not None
        return self._predictor

    @property
    def palette(self) -> Palette:
        """The colors of the model's classes; distinct ones, if it has none."""
        predictor = self.predictor
        return predictor.palette or default_palette(len(predictor.classes))


def load_in_background(
    models: list[PageModel], device: str, precision: str, on_error: Callable[[], object]
) -> threading.Thread:
    """Load models one after the other in a thread.

    Args:
        models: to load.
        device, precision: as for `Predictor`.
        on_error: called when one cannot be loaded; those after it are not loaded then.
    """

    def load() -> None:
        for model in models:
            model.load(device, precision)
            if model.error is not None:
                for other in models:
                    other.error = other.error or model.error
                    other.done.set()
                on_error()
                return

    thread = threading.Thread(target=load, name="loading", daemon=True)
    thread.start()
    return thread


def with_protocol(predictor: Predictor, protocol: str) -> Predictor:
    """A predictor of the same network that shows images by the protocol of this name.

    Raises:
        ValueError: there is no such protocol.
    """
    if protocol == AS_VALIDATED:
        return predictor
    if protocol not in PROTOCOLS:
        known = ", ".join([AS_VALIDATED, *PROTOCOLS])
        raise ValueError(f"there is no protocol {protocol[:40]!r}; there are {known}")
    other = copy.copy(predictor)
    other.protocol = PROTOCOLS[protocol]  # pyright: ignore[reportArgumentType]
    other.is_protocol_given = True
    return other


def protocols_of(predictor: Predictor | None) -> list[tuple[str, str]]:
    """What the page offers: descriptions and names of protocols, that of the model first."""
    own = "as the model was validated" if predictor is None else f"{predictor.protocol}"
    named: list[tuple[ProtocolName, Protocol]] = list(PROTOCOLS.items())  # pyright: ignore[reportAssignmentType]
    others = [(f"{name}: {protocol}", name) for name, protocol in named]
    return [(f"{AS_VALIDATED}: {own}", AS_VALIDATED), *others]
