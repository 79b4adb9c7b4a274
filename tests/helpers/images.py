"""Image files of many kinds, all with a left half of one colour and a right half of another."""

import io

import numpy as np
from PIL import Image

RED, BLUE = (200, 30, 40), (20, 60, 180)
GREY = ((60,) * 3, (200,) * 3)


def encoded(picture, kind, **options):
    """Returns the bytes of a file in the format `kind` with a PIL image."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def halves(colours=(RED, BLUE), size=(32, 24)):
    """Returns an RGB image of the (width, height) `size`, whose halves have two colours."""
    picture = Image.new("RGB", size, colours[0])
    picture.paste(colours[1], (size[0] // 2, 0, *size))
    return picture


def turned(kind, picture, orientation=6, **options):
    """Returns an image file whose EXIF tells viewers to turn it clockwise by 90 degrees, or another orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, kind, exif=exif, **options)


def _sixteen_bits():
    grey = np.full((24, 32), GREY[0][0], np.uint16)
    grey[:, 16:] = GREY[1][0]
    return encoded(Image.fromarray(grey * 257), "PNG")


def _clear():
    picture = halves().convert("RGBA")
    picture.paste((0, 0, 0, 0), (16, 0, 32, 24))
    return encoded(picture, "PNG")


def _printed():
    inks = Image.new("CMYK", (32, 24), (0, 255, 255, 0))
    inks.paste((255, 255, 0, 0), (16, 0, 32, 24))
    return encoded(inks, "JPEG", quality=100)  # Pillow stores the inks inverted, and marks that, as Adobe's programs do


PICTURE = halves()
READABLE = {
    "colour.png": (encoded(PICTURE, "PNG"), (RED, BLUE)),
    "colour.jpg": (encoded(PICTURE, "JPEG", quality=95, subsampling=0), (RED, BLUE)),
    "progressive.jpg": (encoded(PICTURE, "JPEG", quality=95, subsampling=0, progressive=True), (RED, BLUE)),
    "grey.png": (encoded(halves(GREY).convert("L"), "PNG"), GREY),
    "grey.jpg": (encoded(halves(GREY).convert("L"), "JPEG", quality=95), GREY),
    "cmyk.jpg": (_printed(), ((255, 0, 0), (0, 0, 255))),
    "palette.png": (encoded(PICTURE.quantize(4), "PNG"), (RED, BLUE)),
    "sixteen_bits.png": (_sixteen_bits(), GREY),
    "transparent.png": (_clear(), (RED, (255, 255, 255))),
    "animated.gif": (encoded(PICTURE, "GIF", save_all=True, append_images=[halves((BLUE, RED))]), (RED, BLUE)),
    "turned.jpg": (turned("JPEG", PICTURE, quality=95, subsampling=0), (RED, BLUE)),
    "one_pixel.png": (encoded(Image.new("RGB", (1, 1), RED), "PNG"), (RED, RED)),
    "very_wide.png": (encoded(halves(size=(20_000, 40)), "PNG"), (RED, BLUE)),
}  # the name of a file -> its bytes, and the colours of its halves

_WHOLE = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", quality=95)
UNREADABLE = {
    "corrupt.jpg": _WHOLE[:20] + bytes(200) + _WHOLE[220:],
    "truncated.jpg": _WHOLE[: len(_WHOLE) // 2],
    "zero_bytes.jpg": b"",
    "text.png": b"This is no image.",
}


def write(folder, files):
    """Writes files to a folder of a class, `folder`/train/all, and returns its path."""
    place = folder / "train" / "all"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place
