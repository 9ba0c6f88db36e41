"""Bad images: cut off, damaged, of rare kinds, of odd sizes, under wrong names, and objects that are no images."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from chartqa_ft import ChartQACollator, ChartQATrainer, answer_questions, load_chartqa

from .case import QUESTION, adapter, add, encoded, model_and_adapter, new_trainer, picture, record

GROUP = "images"


@cache
def _loading() -> ChartQATrainer:
    """A trainer whose loader reads every image as training does."""
    folder = Path(mkdtemp(prefix="bad_images_"))
    return new_trainer(
        folder,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=2,
        chart_cache="off",
        report_to="none",
    )


def pixels(rows: Any) -> np.ndarray:
    """The last chart of the first training batch, as the model gets it."""
    trainer = _loading()
    trainer.train_dataset = rows
    return next(iter(trainer.get_train_dataloader()))["pixel_values"][-1].float().numpy()


def file_seen(folder: Path, name: str, content: bytes, **options: Any) -> np.ndarray:
    """An image file beside a good one, loaded from a record file and read by the training loader."""
    (folder / "good.png").write_bytes(encoded(image=picture(colours=("black",) * 4)))
    (folder / name).write_bytes(content)
    records = [{"imgname": each, "query": QUESTION, "label": "7"} for each in ("good.png", name)]
    (folder / "records.json").write_text(json.dumps(records))
    return pixels(load_chartqa(folder / "records.json", **options)["train"])


def shows(image: Image.Image | None = None, tolerance: float = 0.0) -> Callable[[np.ndarray], bool]:
    """Right if the model gets what a browser shows; `tolerance` is the mean difference that lossy formats make."""

    def right(value: np.ndarray) -> bool:
        want = pixels([record(image=picture(colours=("black",) * 4), chart_id="b"), record(image=image or picture())])
        return value.shape == want.shape and bool(np.abs(value - want).mean() <= tolerance)

    return right


def add_file(
    name: str, content: bytes, right: Any = None, file: str = "bad.png", refusable: bool = True, **options: Any
) -> None:
    names = (file, "max_pixels") if refusable else ()
    add(GROUP, name, lambda folder: file_seen(folder, file, content, **options), *names, right=right)


# ------------------------------------------------------------------------------------------------ cut off and damaged
_NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8))
Image.init()
# Pillow writes AVIF since 11.3.
_KINDS = [k for k in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF") if k in Image.SAVE]
_SUFFIX = {"JPEG": "jpg", "JPEG2000": "jp2"}


def _damaged() -> None:
    for kind in _KINDS:
        content = encoded(kind, _NOISE)
        suffix = _SUFFIX.get(kind, kind.lower())
        whole = len(content)
        lengths = {"0 bytes": 0, "1 byte": 1, "8 bytes": 8, "a header": 30, "a tenth": whole // 10, "half": whole // 2}
        lengths["all but 40 bytes"] = whole - 40
        for what, length in lengths.items():
            add_file(f"{kind} cut to {what}", content[:length], file=f"bad.{suffix}")
    png = encoded("PNG", _NOISE)
    for at in (8, 16, 29, 37, 60, len(png) // 2, len(png) - 40, len(png) - 20):
        changed = bytearray(png)
        changed[at : at + 3] = bytes(b ^ 0x5A for b in changed[at : at + 3])
        add_file(f"PNG with 3 bytes changed at {at}", bytes(changed))
    for start, size in ((50, 40), (len(png) // 2, 300), (len(png) - 400, 200)):
        changed = bytearray(png)
        changed[start : start + size] = bytes(size)
        add_file(f"PNG with {size} zeros at {start}", bytes(changed))
    add_file("PNG without its last chunk", png[:-12], shows(_NOISE))
    add_file("PNG with rubbish behind its end", png + b"rubbish" * 50, shows(_NOISE))
    add_file("PNG with a line break before its start", b"\r\n" + png, shows(_NOISE))
    add_file("PNG that went through a text transfer", png.replace(b"\r\n", b"\n"))
    add_file("PNG twice in one file", png + png, shows(_NOISE))
    jpeg = encoded("JPEG")
    add_file("JPEG without its end marker", jpeg[:-2], shows(tolerance=25), file="bad.jpg")
    add_file("JPEG with a zero behind its end", jpeg + b"\0", shows(tolerance=25), file="bad.jpg")


# ------------------------------------------------------------------------------------------------- other kinds of file
def _others() -> None:
    wrong = {
        "an HTML page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "a text": b"see the figure on page 3\n",
        "an SVG drawing": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "a PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "an EPS drawing": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "an archive": b"PK\x03\x04" + bytes(60),
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "zeros": bytes(2000),
        "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.",
        "JSON": b'{"message": "Not Found"}',
        "a HEIC photo": b"\x00\x00\x00\x18ftypheic" + bytes(40),
        "base64 text": b"iVBORw0KGgoAAAANSUhEUgAAADAAAAAoCAIAAAC",
        "an XPM": b"/* XPM */ static char *a[] = {};",
        "an icon": encoded("ICO", picture(16, 16)),
        "a bad BMP header": b"BM" + bytes(60),
    }
    for what, content in wrong.items():
        add_file(f"{what} under the name of an image", content)
    for kind in _KINDS:
        tolerance = 25 if kind in ("JPEG", "JPEG2000", "AVIF", "WEBP") else 0
        add_file(f"{kind} under the name of a GIF", encoded(kind), shows(tolerance=tolerance), file="bad.gif")
    add_file("PNG without a suffix", encoded(), shows(), file="bad")
    add_file("PNG with a suffix in capitals", encoded(), shows(), file="bad.PNG")


# -------------------------------------------------------------------------------------------------------------- modes
def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, bits: int, colour: int, rows: bytes, before: bytes = b"") -> bytes:
    """A PNG written by hand, for kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _modes() -> None:
    grey = picture().convert("L")
    add_file("PNG of 1 bit", encoded(image=picture().convert("1")), shows(picture().convert("1").convert("RGB")))
    add_file("PNG in grey", encoded(image=grey), shows(grey.convert("RGB")))
    add_file("PNG with a palette", encoded(image=picture().convert("P", palette=Image.Palette.ADAPTIVE)), shows())
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    add_file("PNG in grey of 16 bits", encoded(image=deep), shows(grey.convert("RGB")))
    add_file("TIFF in grey of 16 bits", encoded("TIFF", deep), shows(grey.convert("RGB")), file="bad.tif")
    floats = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    add_file("TIFF of floats from 0 to 1", encoded("TIFF", floats), shows(grey.convert("RGB")), file="bad.tif")
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.asarray(picture()).astype(np.uint16) * 257)
    add_file("PNG in colour of 16 bits", png_of(48, 40, 16, 2, rows), shows())
    cyan = picture().convert("CMYK")
    add_file("TIFF in CMYK", encoded("TIFF", cyan), shows(cyan.convert("RGB")), file="bad.tif")
    add_file("JPEG in CMYK", encoded("JPEG", cyan), shows(cyan.convert("RGB"), 30), file="bad.jpg")
    add_file("JPEG in grey", encoded("JPEG", grey), shows(grey.convert("RGB"), 10), file="bad.jpg")
    add_file(
        "TIFF in Lab",
        encoded("TIFF", Image.new("LAB", (48, 40), (255, 128, 128))),
        file="bad.tif",
        right=shows(Image.new("RGB", (48, 40), "white"), 3),
    )
    clear_left = picture().convert("RGBA")
    clear_left.paste((0, 0, 0, 0), (0, 0, 24, 40))
    white_left = picture()
    white_left.paste("white", (0, 0, 24, 40))
    add_file("PNG with transparency", encoded(image=clear_left), shows(white_left))
    add_file("WebP with transparency", encoded("WEBP", clear_left, lossless=True), shows(white_left), file="bad.webp")
    palette = picture().convert("P", palette=Image.Palette.ADAPTIVE)
    key = palette.getpixel((0, 0))
    white_key = picture()
    white_key.paste("white", (0, 0, 24, 20))
    add_file("PNG with a transparent entry of its palette", encoded(image=palette, transparency=key), shows(white_key))
    add_file(
        "GIF with a transparent colour", encoded("GIF", palette, transparency=key), shows(white_key), file="b.gif"
    )
    alphas = bytes(0 if index == key else 255 for index in range(256))
    add_file("PNG with alphas of its palette", encoded(image=palette, transparency=alphas), shows(white_key))
    colour = picture().getpixel((0, 0))
    add_file("PNG with a transparent colour", encoded(image=picture(), transparency=colour), shows(white_key))
    partly = Image.new("LA", (48, 40), (0, 0))
    add_file("PNG in grey that is all transparent", encoded(image=partly), shows(Image.new("RGB", (48, 40), "white")))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        for kind, suffix, tolerance in (
            ("JPEG", "jpg", 30),
            ("PNG", "png", 0),
            ("WEBP", "webp", 30),
            ("TIFF", "tif", 0),
        ):
            lone = picture()
            lone.info["exif"] = exif.tobytes()
            content = encoded(kind, picture(), exif=exif)
            want = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded("PNG", picture(), exif=exif))))
            add_file(f"{kind} with EXIF orientation {turn}", content, shows(want, tolerance), file=f"bad.{suffix}")
    add_file("PNG with damaged EXIF", encoded(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), shows())
    add_file("JPEG with damaged EXIF", encoded("JPEG", exif=b"Exif\0\0II*\0\xff"), shows(tolerance=25), file="bad.jpg")
    add_file("PNG with a damaged colour profile", encoded(icc_profile=b"no profile"), shows())
    info = PngInfo()
    info.add_text("Comment", "x" * 3_000_000, zip=True)
    add_file("PNG with a text that unpacks to megabytes", encoded(pnginfo=info), shows())
    add_file("JPEG that is progressive", encoded("JPEG", progressive=True), shows(tolerance=25), file="bad.jpg")
    others = [picture(colours=("black",) * 4), picture(colours=("white",) * 4)]
    for kind, suffix in (("GIF", "gif"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(kind, picture(), save_all=True, append_images=others, **lossless)
        add_file(f"{kind} of three pictures shows its first", content, shows(), file=f"bad.{suffix}")


# -------------------------------------------------------------------------------------------------------------- sizes
def _sizes() -> None:
    add_file("PNG without pixels", png_of(0, 0, 8, 2, b""))
    add_file("PNG without width", png_of(0, 40, 8, 2, bytes(40)))
    for width, height in ((1, 51), (51, 1), (1, 3000), (3000, 1), (2, 200)):
        add_file(f"PNG of {width} x {height}", encoded(image=picture(width, height)))
    for width, height in ((1, 1), (1, 50), (50, 1), (2, 2), (3, 7)):
        image = Image.new("RGB", (width, height), "red")
        add_file(f"PNG of {width} x {height}", encoded(image=image), shows(image))
    for width, height in ((60_000, 60_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (100_000, 2_000)):
        add_file(f"PNG that declares {width} x {height}", png_of(width, height, 8, 2, b"\0\1\2\3"))
    add_file("PNG that declares more rows than it has", png_of(48, 4000, 8, 2, b"\0" * 500))
    gif = bytearray(encoded("GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    add_file("GIF that declares 65535 x 65535", bytes(gif), file="bad.gif")
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    add_file("JPEG that declares 65500 x 65500", bytes(jpeg), file="bad.jpg")
    bmp = bytearray(encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    add_file("BMP that declares 30000 x 30000", bytes(bmp), file="bad.bmp")
    tall = bytearray(encoded("BMP", ImageOps.flip(picture())))
    tall[22:26] = struct.pack("<i", -40)
    add_file("BMP from top to bottom", bytes(tall), shows(), file="bad.bmp")
    add_file("PNG above max_pixels", encoded(), max_pixels=48 * 40 - 1)
    add_file("PNG of just max_pixels", encoded(), shows(), max_pixels=48 * 40)


# ------------------------------------------------------------------------------------------------------------ objects
class _Closed:
    """Makes an image whose file was closed before it was read."""

    def __new__(cls, folder: Path) -> Image.Image:
        (folder / "closed.png").write_bytes(encoded())
        with Image.open(folder / "closed.png") as image:
            return image


def _path(folder: Path, kind: type = str) -> Any:
    (folder / "a.png").write_bytes(encoded())
    return kind(folder / "a.png")


def _objects() -> None:
    array = np.asarray(picture())
    good: dict[str, Any] = {
        "an array of uint8": array,
        "an array that is no copy": array[::-1][::-1],
        "bytes": encoded(),
        "a bytearray": bytearray(encoded()),
        "bytes in a dict": {"bytes": encoded(), "path": None},
        "a dict without a path": {"bytes": encoded()},
        "an array with alpha": np.dstack([array, np.full((40, 48), 255, np.uint8)]),
        "floats from 0 to 1": array.astype(np.float32) / 255,
        "an array of int64": array.astype(np.int64),
        "channels first": np.moveaxis(array, -1, 0),
        "a tensor": torch.tensor(array),
        "a tensor with channels first": torch.tensor(array).permute(2, 0, 1),
        "a list of numbers": array.tolist(),
        "a list of one image": [picture()],
        "a base64 text": "iVBORw0KGgoAAAANSUhEUgAAADAAAAAoCAIAAAC",
        "a data address": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAADAAAAAoCAIAAAC",
        "a web address": "https://example.org/a.png",
        "a file address": "file:///tmp/no/a.png",
        "a file that is missing": "/no/such/a.png",
        "no path at all": "",
        "a dict with a path that is missing": {"bytes": None, "path": "/no/such/a.png"},
        "an empty dict": {},
        "None": None,
        "a number": 5,
        "True": True,
        "an open stream": io.BytesIO(encoded()),
        "an array of texts": np.array(["a", "b"]),
        "an array without pixels": np.zeros((0, 0, 3), np.uint8),
        "an array of 5 channels": np.zeros((40, 48, 5), np.uint8),
        "an array of 1 dimension": np.zeros(48, np.uint8),
        "two images in a list": [picture(), picture()],
        "an empty list": [],
        "empty bytes": b"",
        "bytes of a text": b"no image",
        "a dict with both None": {"bytes": None, "path": None},
        "an image without width": Image.new("RGB", (0, 4)),
        "an image of 1 x 3000": Image.new("RGB", (1, 3000)),
        "a type": Image.Image,
    }
    built: dict[str, Callable[[Path], Any]] = {name: (lambda _, value=value: value) for name, value in good.items()}
    built |= {
        "a path": _path,
        "a Path": partial(_path, kind=Path),
        "an image of a closed file": _Closed,
        "a folder": str,
        "a file of text": lambda folder: [(folder / "a.png").write_text("x"), str(folder / "a.png")][1],
    }
    want = lambda: ChartQACollator(adapter())([record()])["pixel_values"]  # noqa: E731
    answer = lambda image: answer_questions(  # noqa: E731
        model_and_adapter()[0], adapter().processor, image, [QUESTION], max_new_tokens=4
    )
    for name, build in built.items():
        add(
            GROUP,
            f"collator: {name} as an image",
            lambda folder, build=build: ChartQACollator(adapter())([record(image=build(folder))])["pixel_values"],
            QUESTION,
            right=lambda value: torch.equal(value, want()),
        )
        add(
            GROUP,
            f"answer_questions: {name} as an image",
            lambda folder, build=build: (answer([build(folder)]), answer([picture()])),
            QUESTION,
            "images",
            right=lambda value: value[0] == value[1],
        )


_damaged()
_others()
_modes()
_sizes()
_objects()
