"""What a network that halves its images again and again can take."""

from __future__ import annotations

from diffkit.errors import ConfigError

__all__ = ["require_sides"]


def require_sides(name: str, shape: tuple[int, ...], divisor: int, words: str, remedy: str) -> None:
    """Refuses what is no image, and sides that `divisor` does not divide.

    Args:
        name: of the network.
        words: what the divisor comes from, after "with".
        remedy: what to change, after "Resize the images".
    """
    if len(shape) != 3:
        raise ConfigError(
            f"The network {name} was given examples of shape {tuple(shape)}",
            "images (channels, height, width)",
            "Choose a network for this shape, or reshape the data",
        )
    if any(side % divisor for side in shape[1:]):
        raise ConfigError(
            f"The network {name} was given images of {shape[1]} x {shape[2]}, with {words}",
            f"sides that {divisor} divides",
            f"Resize the images{remedy}",
        )
