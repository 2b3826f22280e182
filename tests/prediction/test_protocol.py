"""Protocols: their names, their checks, and how they are stored."""

import pytest

from ccnet.prediction.protocol import PROTOCOLS, Protocol, ProtocolChoice


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tile": 0}, "protocol.tile must be a whole number from 1"),
        ({"stride": 5}, "stride must be at most tile"),
        ({"tile": 5, "stride": 6}, "stride must be at most tile"),
        ({"scales": ()}, "at least one"),
        ({"scales": (float("nan"),)}, "protocol.scales.0. must be"),
        ({"scales": (1, 30)}, "protocol.scales.1. must be a number from 0.05 to 20"),
        ({"average": "votes"}, "average must be logits or probabilities"),
        ({"weights": "round"}, "weights must be flat or gaussian"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**fields)


def test_a_protocol_is_stored_and_read():
    for protocol in PROTOCOLS.values():
        assert Protocol.from_dict(protocol.to_dict()) == protocol
    with pytest.raises(ValueError, match=r"no key protocol.tiles; did you mean tile"):
        Protocol.from_dict({"tiles": 3})


def test_a_named_protocol_is_changed_field_by_field():
    assert ProtocolChoice().chosen() is None
    assert ProtocolChoice(tile=None, mirror=None).chosen() is None
    assert ProtocolChoice("sliding").chosen() == Protocol(tile=769, stride=513)
    assert ProtocolChoice(mirror=True).chosen() == Protocol(mirror=True)
    assert ProtocolChoice("sliding", tile=300).chosen() == Protocol(tile=300)
    assert ProtocolChoice("sliding", tile=300).chosen().step == 200
    assert ProtocolChoice("multiscale", scales=[1], mirror=False).chosen() == PROTOCOLS["sliding"]


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (Protocol(), "whole image"),
        (PROTOCOLS["sliding"], "tiles 769, stride 513"),
        (
            Protocol(tile=30, scales=(0.5, 1), mirror=True, weights="gaussian"),
            "tiles 30, stride 20, Gaussian weights, scales 0.5, 1, mirrored too",
        ),
        (
            Protocol(mirror=True, average="probabilities"),
            "whole image, mirrored too, probabilities averaged",
        ),
    ],
)
def test_a_protocol_is_said_in_words(protocol, text):
    assert str(protocol) == text
