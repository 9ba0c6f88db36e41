"""Charts as data URLs: the file's own bytes where all readers see the same picture, else a PNG."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.images import to_rgb
from chartqa_ft.images.data_urls import data_url
from chartqa_ft.images.opening import open_image


def picture(mode="RGB"):
    pixels = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, format, **settings):
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def parts(url):
    head, _, content = url.partition(",")
    return head, base64.b64decode(content, validate=True)


OWN = {
    "png": (encoded(picture(), "PNG"), "image/png"),
    "gray png": (encoded(picture("L"), "PNG"), "image/png"),
    "jpeg": (encoded(picture(), "JPEG"), "image/jpeg"),
    "gray jpeg": (encoded(picture("L"), "JPEG"), "image/jpeg"),
    "webp": (encoded(picture(), "WEBP", lossless=True), "image/webp"),
}


@pytest.mark.parametrize("kind", OWN)
def test_the_bytes_of_a_plain_file_are_sent(kind, tmp_path):
    content, media = OWN[kind]
    path = tmp_path / "chart"
    path.write_bytes(content)
    stored = {"bytes": content, "path": None}
    for image in (content, path, str(path), stored, {"bytes": None, "path": str(path)}):
        assert parts(data_url(image)) == (f"data:{media};base64", content)


exif = Image.Exif()
exif[0x0112] = 6
OTHERS = {
    "alpha": encoded(picture("RGBA"), "PNG"),
    "palette": encoded(picture("P"), "PNG"),
    "color key": encoded(picture(), "PNG", transparency=(0, 1, 2)),
    "16 bits": encoded(Image.fromarray(np.full((8, 12), 40_000, np.uint16)), "PNG"),
    "CMYK": encoded(picture("CMYK"), "JPEG"),
    "rotated": encoded(picture(), "JPEG", exif=exif),
    "rotated gray": encoded(picture("L"), "JPEG", exif=exif),
    "gif": encoded(picture(), "GIF"),
    "tiff": encoded(picture(), "TIFF"),
    "bmp": encoded(picture(), "BMP"),
    "animated webp": encoded(picture(), "WEBP", save_all=True, append_images=[picture("L").convert("RGB")]),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_become_the_png_that_this_library_sees(kind):
    head, content = parts(data_url(OTHERS[kind]))
    assert head == "data:image/png;base64"
    sent, seen = Image.open(io.BytesIO(content)), to_rgb(open_image(OTHERS[kind]))
    assert (sent.format, sent.mode, sent.size) == ("PNG", "RGB", seen.size)
    assert sent.tobytes() == seen.tobytes()


@pytest.mark.parametrize("image", [picture(), np.asarray(picture())])
def test_images_without_a_file_become_png(image):
    sent = Image.open(io.BytesIO(parts(data_url(image))[1]))
    assert sent.tobytes() == picture().tobytes()


@pytest.mark.parametrize(
    ("image", "error"),
    [(b"no image", OSError), ("nowhere.png", OSError), (None, TypeError), (OWN["png"][0][:60], OSError)],
)
def test_what_is_no_image_is_refused(image, error):
    with pytest.raises(error):
        data_url(image)


def test_too_narrow_images_are_refused():
    with pytest.raises(ValueError, match="50:1"):
        data_url(Image.new("RGB", (600, 2)))
