"""read_photo: every ordinary kind of image, and every kind of bad file."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from headlab.datasets.photo import read_photo
from headlab.geometry.errors import HeadlabError


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth RGB that differs along both axes and between channels, so that turns and swaps show."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)], -1
    ).astype(np.uint8)


def expected(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "ppm"])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str) -> None:
    pixels = gradient(8, 16)  # few enough colours for a GIF's palette
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    frame = read_photo(tmp_path / f"a.{suffix}")
    assert frame.image.dtype == torch.float32 and frame.size == (8, 16)
    assert torch.allclose(frame.image, expected(pixels), atol=1e-6)
    assert frame.mask is None and frame.focal is None and frame.source == tmp_path / f"a.{suffix}"


def test_lossless_webp_is_exact(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.webp", lossless=True)
    assert torch.allclose(read_photo(tmp_path / "a.webp").image, expected(gradient()), atol=1e-6)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_are_close(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(gradient()).save(tmp_path / f"a.{suffix}", quality=95)
    assert (read_photo(tmp_path / f"a.{suffix}").image - expected(gradient())).abs().mean() < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_turns(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = Image.fromarray(gradient())
    undo = {  # what a camera held that way stores; inverse of the EXIF standard's instruction
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **({} if suffix == "tif" else {"quality": 98}))
    frame = read_photo(tmp_path / f"a.{suffix}")
    assert frame.size == (24, 40)
    assert (frame.image - expected(gradient())).abs().mean() < 0.01


def deep_tiff(pixels: np.ndarray, orientation: int, order: str) -> bytes:
    """An uncompressed 16-bit RGB TIFF, written by the book."""
    height, width, _ = pixels.shape
    data = pixels.astype(order + "u2").tobytes()
    bits, directory = 8 + len(data), 8 + len(data) + 6
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data))]
    out = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", directory) + data
    out += struct.pack(order + "3HH", 16, 16, 16, len(entries))
    for tag, kind, count, value in entries:
        wide = kind == 4 or count > 1
        out += struct.pack(
            order + "HHI" + ("I" if wide else "HH"), tag, kind, count, *([value] if wide else [value, 0])
        )
    return out + b"\0" * 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_sixteen_bit_tiff(tmp_path: Path, orientation: int, order: str) -> None:
    Image.fromarray(gradient()).save(tmp_path / "eight.tif", tiffinfo={274: orientation})
    (tmp_path / "sixteen.tif").write_bytes(deep_tiff(gradient().astype(np.uint16) * 257 + 1, orientation, order))
    difference = read_photo(tmp_path / "sixteen.tif").image - read_photo(tmp_path / "eight.tif").image
    values = (difference * 65535).round().unique().tolist()
    assert values == [-65535, 1] or values == [1]  # one more than the eight bits say; 65535 + 1 wraps to 0


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 7, 4), dtype=np.uint16)
    for name in ("a.png", "a.tiff"):
        cv2.imwrite(str(tmp_path / name), values[..., :3])  # OpenCV takes BGR
        want = torch.from_numpy(values[..., 2::-1].astype(np.float32) / 65535).permute(2, 0, 1)
        assert torch.allclose(read_photo(tmp_path / name).image, want, atol=1e-7)
    cv2.imwrite(str(tmp_path / "grey.png"), values[..., 0])
    grey = read_photo(tmp_path / "grey.png").image
    assert torch.allclose(grey, torch.from_numpy(values[..., 0].astype(np.float32) / 65535).expand(3, 6, 7), atol=1e-7)
    cv2.imwrite(str(tmp_path / "alpha.png"), values)
    mask = read_photo(tmp_path / "alpha.png").mask
    assert mask is not None
    assert torch.allclose(mask, torch.from_numpy(values[..., 3].astype(np.float32) / 65535), atol=1e-7)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(gradient()).convert(mode)
    picture.save(tmp_path / "a.png")
    want = expected(np.asarray(picture.convert("RGB")))
    assert torch.allclose(read_photo(tmp_path / "a.png").image, want, atol=1e-6)


def test_alpha_is_laid_on_white_and_kept(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), np.full((24, 40), 255, np.uint8)])
    rgba[:, :20, 3] = 0
    rgba[0, 39, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "a.png")
    frame = read_photo(tmp_path / "a.png")
    assert frame.mask is not None
    assert torch.allclose(frame.mask, torch.from_numpy(rgba[..., 3] / np.float32(255)))
    assert (frame.image[:, :, :20] == 1).all()
    assert torch.allclose(frame.image[:, 1:, 20:], expected(gradient())[:, 1:, 20:], atol=1e-6)
    assert torch.allclose(frame.image[:, 0, 39], expected(gradient())[:, 0, 39] * 0.2 + 0.8, atol=1e-6)


def test_opaque_alpha_and_transparent_palette(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([gradient(), np.full((24, 40), 255, np.uint8)])).save(tmp_path / "opaque.png")
    assert read_photo(tmp_path / "opaque.png").mask is None
    palette = Image.fromarray(np.zeros((2, 2), np.uint8), mode=None).convert("P")
    palette.putpixel((1, 1), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    mask = read_photo(tmp_path / "p.png").mask
    assert mask is not None and mask.tolist() == [[1, 1], [1, 0]]


def test_cmyk(tmp_path: Path) -> None:
    pure = {(0, 0, 0, 0): (1, 1, 1), (255, 0, 0, 0): (0, 1, 1), (0, 0, 0, 255): (0, 0, 0), (0, 255, 255, 0): (1, 0, 0)}
    for ink, rgb in pure.items():
        for suffix in ("jpg", "tif"):
            Image.new("CMYK", (16, 16), ink).save(tmp_path / f"c.{suffix}")
            colour = read_photo(tmp_path / f"c.{suffix}").image.mean((1, 2))
            assert torch.allclose(colour, torch.tensor(rgb, dtype=torch.float32), atol=0.02), (ink, suffix)


def icc(primaries: list[tuple[float, float]]) -> bytes:
    """A minimal matrix profile with gamma 2 and the given red, green and blue (x, y) chromaticities, white D50."""
    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)

    def fixed(v: float) -> bytes:
        return struct.pack(">i", round(v * 65536))

    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + b"\0" * 78,
        b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(fixed, white)),
        b"cprt": b"text\0\0\0\0none\0",
    }
    for i, c in enumerate("rgb"):
        tags[f"{c}XYZ".encode()] = b"XYZ \0\0\0\0" + b"".join(map(fixed, columns[:, i]))
        tags[f"{c}TRC".encode()] = b"curv\0\0\0\0" + struct.pack(">IH", 1, 2 * 256) + b"\0\0"
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(fixed, white)) + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + body


def test_icc_profile_is_applied(tmp_path: Path) -> None:
    # With sRGB's primaries (adapted to D50) only the gamma differs: linear = v^2, then sRGB's curve.
    profile = icc([(0.6484, 0.3309), (0.3212, 0.5979), (0.1559, 0.0660)])
    ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    grey = 128 / 255
    linear = grey**2
    want = 1.055 * linear ** (1 / 2.4) - 0.055
    rgba = Image.new("RGBA", (4, 4), (128, 128, 128, 255))
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    for name, picture in {"a.png": Image.new("RGB", (4, 4), (128,) * 3), "b.png": rgba}.items():
        picture.save(tmp_path / name, icc_profile=profile)
        frame = read_photo(tmp_path / name)
        assert torch.allclose(frame.image[:, 3, 3], torch.full((3,), want), atol=0.012), name
    assert frame.mask is not None and frame.mask[0, 0] == 0


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_damaged_or_foreign_profile_counts_as_none(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode)
    picture.save(tmp_path / "plain.jpg", quality=95)
    for profile in (b"nonsense", icc([(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)]) if mode != "RGB" else b"\0" * 200):
        picture.save(tmp_path / "a.jpg", quality=95, icc_profile=profile)
        assert torch.equal(read_photo(tmp_path / "a.jpg").image, read_photo(tmp_path / "plain.jpg").image)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "a.png")
    assert torch.allclose(read_photo(tmp_path / "a.png").image.flatten(), torch.tensor([1, 0, 0.2]))


def test_path_may_be_text_and_hold_any_letters(tmp_path: Path) -> None:
    cv2.imencode(".png", np.full((3, 3, 3), 30000, np.uint16))[1].tofile(tmp_path / "Größe 頭.png")
    assert read_photo(str(tmp_path / "Größe 頭.png")).image.mean() == pytest.approx(30000 / 65535)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(200, 300)).save(buffer, "JPEG")
    return buffer.getvalue()


def deep_png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    return bytes(cv2.imencode(".png", noise)[1])


BAD = {
    "empty.jpg": (b"", "0 bytes"),
    "text.jpg": (b"hello, this is no picture at all", "not an image"),
    "zeros.png": (b"\0" * 4096, "only zeros"),
    "cut.jpg": (jpeg()[: len(jpeg()) // 2], "damaged"),
    "cut.png": (deep_png()[: len(deep_png()) // 2], "damaged"),
    "header.jpg": (jpeg()[:20], "damaged"),
    "signature.png": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "phone.heic": (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"\0" * 100, "HEIC"),
    "film.mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2" + b"\0" * 100, "video"),
    "camera.dng": (b"II*\0\x08\0\0\0" + b"\0" * 100, "raw camera"),
    "huge.png": (png_header(20000, 20000), "20000 x 20000"),
    "bomb.png": (png_header(2**31 - 1, 2**31 - 1), "megapixels"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content, clue = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HeadlabError, match=clue) as caught:
        read_photo(tmp_path / name)
    message = str(caught.value)
    assert name in message and "\n" not in message and ("; " in message)
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="does not exist"):
        read_photo(tmp_path / "no.jpg")
    with pytest.raises(HeadlabError, match="folder"):
        read_photo(tmp_path)


def test_limit_is_the_callers(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(HeadlabError, match="100 x 100"):
        read_photo(tmp_path / "a.png", max_megapixels=0.009)
    assert Image.MAX_IMAGE_PIXELS is not None  # Pillow's own guard is as it was
    assert read_photo(tmp_path / "a.png", max_megapixels=0.01).size == (100, 100)


def test_hdr_is_refused_and_float_grey_read(tmp_path: Path) -> None:
    for value, fine in ((0.25, True), (7.0, False), (float("nan"), False)):
        Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "f.tif")
        if fine:
            assert (read_photo(tmp_path / "f.tif").image == value).all()
        else:
            with pytest.raises(HeadlabError, match="tone-map"):
                read_photo(tmp_path / "f.tif")


def test_every_cut_of_a_file_is_an_error_or_an_image(tmp_path: Path) -> None:
    """Whatever the damage, nothing but HeadlabError comes out."""
    rng = np.random.default_rng(1)
    for suffix in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(gradient()).save(buffer, suffix, **({"exif": exif} if suffix not in ("BMP", "GIF") else {}))
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for _ in range(40):
            broken = whole.copy()
            broken[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
            broken = broken[: rng.integers(1, len(whole) + 1)]
            (tmp_path / "x").write_bytes(broken.tobytes())
            try:
                image = read_photo(tmp_path / "x", max_megapixels=1).image
                assert image.min() >= 0 and image.max() <= 1
            except HeadlabError as error:
                assert "\n" not in str(error)
