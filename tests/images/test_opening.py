"""Images of records: whatever stands for one is opened, and what does not is named."""

from __future__ import annotations

import numpy as np
import pytest

from chartqa_ft.images.opening import open_image, stored_bytes

from .files import encoded, noise


def test_whatever_stands_for_an_image_is_opened(tmp_path):
    image, content = noise(), encoded(noise(), "PNG")
    path = tmp_path / "chart.png"
    path.write_bytes(content)
    assert open_image(image) is image
    forms = [path, str(path), {"bytes": None, "path": str(path)}, {"bytes": content, "path": "gone.png"}]
    for form in [*forms, np.asarray(image)]:
        assert np.array_equal(np.asarray(open_image(form)), np.asarray(image))
    assert [stored_bytes(form) for form in forms] == [content] * 4
    assert stored_bytes(image) is None
    assert stored_bytes(np.asarray(image)) is None


def test_a_file_is_not_kept_open(tmp_path):
    path = tmp_path / "chart.png"
    path.write_bytes(encoded(noise(), "PNG"))
    image = open_image(path)
    path.unlink()
    assert np.array_equal(np.asarray(image), np.asarray(noise()))


def test_what_is_no_image_is_named(tmp_path):
    text = tmp_path / "chart.txt"
    text.write_text("no image")
    with pytest.raises(OSError, match=r"chart\.txt is no image file of the formats PNG, JPEG"):
        open_image(text)
    with pytest.raises(OSError, match="the stored image is no image file"):
        open_image({"bytes": b"%!PS-Adobe-3.0", "path": None})
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.png")
    assert stored_bytes(tmp_path / "none.png") is None
    with pytest.raises(OSError, match="neither bytes nor a path"):
        open_image({"bytes": None, "path": None})
    assert stored_bytes({"bytes": None, "path": None}) is None
    for other in (None, 5, [1, 2]):
        with pytest.raises(TypeError, match="expected a PIL image, a path or an array of uint8"):
            open_image(other)
    with pytest.raises(TypeError):
        open_image(np.zeros((2, 2, 7)))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((4, 4, 3), 1.0047, np.float32), "values up to 1.0047 is too bright for 0..1.*clip it to 0..1"),
        (np.array([[0, 2**32 - 1]], np.uint32), "values up to 4294967295 is no image"),
        (np.array([[0, 2**33]], np.int64), "values up to 8589934592 is no image"),
    ],
)
def test_values_that_would_become_black_are_refused(array, said):
    with pytest.raises(ValueError, match=said):
        open_image(array)


def test_values_up_to_the_limits_are_taken():
    assert open_image(np.ones((4, 4, 3), np.float32)).getextrema() == ((255, 255),) * 3
    assert open_image(np.full((4, 4, 3), 2.0)).getextrema() == ((2, 2),) * 3
    assert open_image(np.full((4, 4), 2**31 - 1, np.uint32)).getextrema() == (2**31 - 1, 2**31 - 1)
