"""Points of the input space as images, where the input's shape says that it is one. PNG (RFC 2083) by zlib alone."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from lipcert.report.html.content import Picture

CHANNELS = (1, 3)
"""Grey, and red green blue."""

MAX_PIXELS = 2**18
"""Of images that are shown."""

BELOW, ABOVE = np.array([33, 102, 172]), np.array([178, 24, 43])
"""Blue and red, told apart by those who do not see all colours, too."""


@dataclass(frozen=True)
class ImageShape:
    """How a flat input is an image."""

    channels: int
    height: int
    width: int
    channels_last: bool

    @property
    def size(self) -> int:
        return self.channels * self.height * self.width

    def unflatten(self, flat: np.ndarray) -> np.ndarray:
        """(height, width, channels)."""
        if self.channels_last:
            return flat.reshape(self.height, self.width, self.channels)
        return flat.reshape(self.channels, self.height, self.width).transpose(1, 2, 0)


def image_shape(shape: list[int]) -> ImageShape | None:
    """Of an input [1, C, H, W] or [1, H, W, C] with 1 or 3 channels; None where it is neither, or may be both."""
    if len(shape) != 4 or shape[0] != 1:
        return None
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first == last:
        return None
    channels, height, width = shape[1:] if first else (shape[3], shape[1], shape[2])
    if min(height, width) < 2 or height * width > MAX_PIXELS:
        return None
    return ImageShape(channels, height, width, not first)


def grey_or_colour(flat: np.ndarray, low: float, high: float, shape: ImageShape, what: str) -> Picture:
    """Values from low (black) to high (white, or all of a colour)."""
    with np.errstate(all="ignore"):
        share = np.nan_to_num((flat / 2 - low / 2) / (high / 2 - low / 2), nan=0.5)
    pixels = shape.unflatten(np.clip(np.rint(255 * share), 0, 255)).astype(np.uint8)
    ends = f"{low:.4g} is black, {high:.4g} {'white' if shape.channels == 1 else 'full colour'}"
    return Picture(data_uri(pixels), f"{what}, {shape.height} by {shape.width} pixels", f"{what}: {ends}")


def signed(flat: np.ndarray, shape: ImageShape, what: str) -> Picture:
    """Blue below zero, red above, white at zero; of several channels, the entry that is farthest from zero."""
    image = shape.unflatten(flat)
    farthest = np.take_along_axis(image, np.argmax(np.abs(image), axis=2)[..., None], axis=2)
    most = float(np.max(np.abs(flat), initial=0.0))
    share = farthest / most if most else np.zeros_like(farthest)
    colour = np.where(share < 0, BELOW, ABOVE)
    pixels = np.rint(255 + np.abs(share) * (colour - 255)).astype(np.uint8)
    ends = f"blue {-most:.4g}, white 0, red {most:.4g}" if most else "zero everywhere"
    return Picture(data_uri(pixels), f"{what}, {shape.height} by {shape.width} pixels", f"{what}: {ends}")


def data_uri(pixels: np.ndarray) -> str:
    """A PNG of bytes (height, width, 1 or 3)."""
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: unfiltered
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
