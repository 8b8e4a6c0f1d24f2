"""Images are what the numbers are, where the shape says that there is one."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest

from lipcert.report.html.images import ABOVE, BELOW, ImageShape, data_uri, grey_or_colour, image_shape, signed


def pixels(uri: str) -> np.ndarray:
    """A reader of the PNGs that are written here; checks the digests of its chunks."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        name, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size]) == (zlib.crc32(name + body),)
        chunks[name], place = body, place + 12 + size
    width, height, depth, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    channels = {0: 1, 2: 3}[kind]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + channels * width)
    assert depth == 8
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 4, 3)])
def test_a_png_holds_its_pixels(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(pixels(data_uri(image)), image)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([1, 1, 28, 28], ImageShape(1, 28, 28, False)),
        ([1, 3, 32, 16], ImageShape(3, 32, 16, False)),
        ([1, 28, 28, 1], ImageShape(1, 28, 28, True)),
        ([1, 32, 16, 3], ImageShape(3, 32, 16, True)),
        ([1, 64], None),
        ([1, 784], None),
        ([1, 28, 28], None),
        ([2, 1, 28, 28], None),
        ([1, 4, 8, 8], None),
        ([1, 3, 8, 3], None),  # either way
        ([1, 1, 1, 64], None),
        ([1, 1, 10**5, 10**5], None),
        ([1, 1, 8, 0], None),
        ([], None),
    ],
)
def test_only_a_shape_that_says_so_is_an_image(shape: list[int], expected: ImageShape | None) -> None:
    assert image_shape(shape) == expected


def test_channels_are_where_the_layout_says() -> None:
    image = np.random.default_rng(0).random((4, 5, 3))
    first = ImageShape(3, 4, 5, False).unflatten(image.transpose(2, 0, 1).reshape(-1))
    assert np.array_equal(first, ImageShape(3, 4, 5, True).unflatten(image.reshape(-1)))
    assert np.array_equal(first, image)


def test_grey_goes_from_the_smallest_to_the_largest() -> None:
    picture = grey_or_colour(np.array([-1.0, 0.0, 1.0, 3.0]), -1.0, 3.0, ImageShape(1, 2, 2, False), "Witness")
    assert pixels(picture.uri)[..., 0].tolist() == [[0, 64], [128, 255]]
    assert picture.caption == "Witness: -1 is black, 3 white"
    assert picture.alt == "Witness, 2 by 2 pixels"


def test_signs_have_colours() -> None:
    picture = signed(np.array([-2.0, 0.0, 1.0, 2.0]), ImageShape(1, 2, 2, False), "Difference")
    image = pixels(picture.uri)
    assert image[0, 0].tolist() == BELOW.tolist()
    assert image[0, 1].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == ABOVE.tolist()
    assert np.all(image[1, 0] == np.rint((255 + ABOVE) / 2))


@pytest.mark.parametrize("values", [np.zeros(4), np.full(4, 1e308) * [1, -1, 1, 1], np.full(4, 5e-324)])
def test_extreme_values_are_drawn(values: np.ndarray) -> None:
    shape = ImageShape(1, 2, 2, False)
    grey_or_colour(values, float(values.min()), float(values.max()), shape, "x")
    signed(values, shape, "x")
