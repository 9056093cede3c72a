"""The pace of films on the page: one of a dozen frames would be over before anybody has seen what changes."""

from __future__ import annotations

from collections.abc import Iterator

SHORTEST, HOLD = 300, 150
"""Time that a film takes at least, and that its last frame stands at least, in hundredths of a second."""


def paced(delays: list[int]) -> list[int]:
    """Return how long each frame is shown, in hundredths of a second. Films of SHORTEST or more keep their pace."""
    if sum(delays) >= SHORTEST or len(delays) < 2:
        return delays
    slower = [max(delay, SHORTEST // len(delays)) for delay in delays]
    return [*slower[:-1], max(slower[-1], HOLD)]


def slowed(gif: bytes) -> bytes:
    """Return the film at that pace. Only its delays change, so the pictures stay as they are to the last bit."""
    places, whole = list(_delays(gif)), bytearray(gif)
    for place, delay in zip(places, paced(_read(gif, places)), strict=True):
        whole[place : place + 2] = delay.to_bytes(2, "little")
    return bytes(whole)


def seconds(gif: bytes) -> float:
    """Return how long the film takes at that pace."""
    return sum(paced(_read(gif, list(_delays(gif))))) / 100


def _read(gif: bytes, places: list[int]) -> list[int]:
    return [int.from_bytes(gif[place : place + 2], "little") for place in places]


def _delays(gif: bytes) -> Iterator[int]:
    """Yield the place of each frame's delay: two bytes in the frame's graphic control extension (GIF89a, 23).

    Raises:
        ValueError: the file ends too early.
    """
    try:
        at = 13 + _table(gif[10])
        while gif[at] != 0x3B:
            if gif[at] == 0x21:
                if gif[at + 1] == 0xF9:
                    yield at + 4
                at += 2
            else:  # an image: its descriptor, its own colours, and the size of its codes
                at += 11 + _table(gif[at + 9])
            while gif[at]:  # sub-blocks, each after its length
                at += gif[at] + 1
            at += 1
    except IndexError:
        raise ValueError("not a whole GIF") from None


def _table(flags: int) -> int:
    """Return the size of a table of colours from the byte that describes it."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
