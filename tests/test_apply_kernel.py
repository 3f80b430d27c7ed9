"""What `convbench.apply_kernel` makes of pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convbench.apply_kernel import KERNELS
from convbench.convs.from_scratch import FromScratchConv2d

HIGH, WIDE = 9, 13
IMPLEMENTATIONS = (*FromScratchConv2d.implementations, "library")
MODES = {"reflect": "reflect", "zeros": "constant", "replicate": "edge", "circular": "wrap"}  # what NumPy calls them


def noise(*shape: int, top: int = 255) -> np.ndarray:
    kind = np.uint8 if top == 255 else np.uint16
    return np.random.default_rng(0).integers(0, top, shape, kind, endpoint=True)


def saved(path: Path, pixels: np.ndarray) -> np.ndarray:
    Image.fromarray(pixels).save(path)
    return pixels


def loaded(path: Path, mode: str | None = None) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image if mode is None else image.convert(mode))


def expected(pixels: np.ndarray, kernel: list[list[float]], mode: str = "reflect", top: int = 255) -> np.ndarray:
    """Pixel by pixel and colour by colour, as the definition of a convolution has it."""
    taps = np.array(kernel, dtype=float)
    high, wide = taps.shape
    before = (high - 1) // 2, (wide - 1) // 2
    border = [(before[0], high - 1 - before[0]), (before[1], wide - 1 - before[1])]
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    padded = np.pad(planes.astype(float), [*border, (0, 0)], mode)
    result = np.zeros(planes.shape)
    for row, column, colour in np.ndindex(*planes.shape):
        result[row, column, colour] = (padded[row : row + high, column : column + wide, colour] * taps).sum()
    return result.round().clip(0, top).astype(pixels.dtype).reshape(pixels.shape)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_result_is_that_of_the_definition_beside_the_picture_under_its_name(run_here, tmp_path, kernel):
    (tmp_path / "my pets").mkdir()
    pixels = saved(tmp_path / "my pets" / "dog=1.png", noise(HIGH, WIDE, 3))
    done = run_here("apply_kernel", "image=my pets/dog=1.png", f"kernel={kernel}")
    assert done.code == 0, done.err
    result = loaded(tmp_path / "my pets" / f"dog=1_{kernel}.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS[kernel]))
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_identity_gives_the_same_pixels(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE, 3))
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), pixels)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_plain_wall_stays_as_it_is_and_has_no_edges(run_here, tmp_path, kernel):
    pixels = saved(tmp_path / "wall.png", np.full((HIGH, WIDE, 3), (20, 90, 200), np.uint8))
    run_here("apply_kernel", "image=wall.png", f"kernel={kernel}")
    np.testing.assert_array_equal(loaded(tmp_path / f"wall_{kernel}.png"), 0 if kernel == "edge" else pixels)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_implementation_gives_the_same_picture(run_here, tmp_path, implementation):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE, 3))
    done = run_here("apply_kernel", "image=dog.png", "kernel=emboss", f"implementation={implementation}")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(loaded(tmp_path / "dog_emboss.png"), expected(pixels, KERNELS["emboss"]))


@pytest.mark.parametrize("implementation", [name for name in IMPLEMENTATIONS if name not in FromScratchConv2d.limits])
@pytest.mark.parametrize("rows", [[[1, -1]], [[1, 2, 0, 0], [-1, 0, 1, 1]], [[2]], [[-1], [0], [0], [0], [2]]])
def test_a_kernel_may_have_any_size(run_here, tmp_path, implementation, rows):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE, 3))
    done = run_here("apply_kernel", "image=dog.png", f"kernel={rows}", f"implementation={implementation}")
    assert done.code == 0, done.err
    result = loaded(tmp_path / f"dog_{len(rows)}x{len(rows[0])}.png")
    np.testing.assert_array_equal(result, expected(pixels, rows))


def test_an_unknown_implementation_is_answered_with_those_there_are_and_the_help_knows_them_too(run_here, tmp_path):
    saved(tmp_path / "dog.png", noise(HIGH, WIDE))
    done = run_here("apply_kernel", "image=dog.png", "implementation=fast")
    assert done.code == 2
    assert all(name in done.err for name in IMPLEMENTATIONS)
    assert "(implementation)" in done.err
    page = run_here("apply_kernel", "--help").out
    assert all(name in page for name in IMPLEMENTATIONS)


@pytest.mark.parametrize("padding", MODES)
def test_the_padding_is_what_lies_beyond_the_border(run_here, tmp_path, padding):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE))
    run_here("apply_kernel", "image=dog.png", "kernel=emboss", f"padding_mode={padding}")
    result = loaded(tmp_path / "dog_emboss.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS["emboss"], MODES[padding]))


@pytest.mark.parametrize("shape", [(HIGH, WIDE, 2), (HIGH, WIDE, 4)], ids=["grey", "RGB"])
def test_alpha_stays_as_it_is(run_here, tmp_path, shape):
    pixels = saved(tmp_path / "dog.png", noise(*shape))
    run_here("apply_kernel", "image=dog.png", "kernel=sharpen")
    result = loaded(tmp_path / "dog_sharpen.png")
    np.testing.assert_array_equal(result[..., -1], pixels[..., -1])
    np.testing.assert_array_equal(result[..., :-1], expected(pixels[..., :-1], KERNELS["sharpen"]))


def test_grey_of_16_bits_stays_so(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE, top=65535))
    assert "grey, 16 bits" in run_here("apply_kernel", "image=dog.png", "kernel=sharpen").out
    result = loaded(tmp_path / "dog_sharpen.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS["sharpen"], top=65535))


def test_a_palette_becomes_colours_and_a_transparent_one_keeps_its_holes(run_here, tmp_path):
    picture = Image.fromarray(noise(HIGH, WIDE, 3)).quantize(8)
    picture.save(tmp_path / "dog.png")
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), np.asarray(picture.convert("RGB")))
    picture.save(tmp_path / "cat.gif", transparency=3)
    run_here("apply_kernel", "image=cat.gif", "kernel=identity")
    result = loaded(tmp_path / "cat_identity.png")
    holes = loaded(tmp_path / "cat.gif", "RGBA")[..., 3]
    assert set(np.unique(holes)) == {0, 255}
    np.testing.assert_array_equal(result[..., 3], holes)


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "L", "RGB"])
def test_pictures_of_every_kind_are_taken(run_here, tmp_path, mode):
    Image.fromarray(noise(HIGH, WIDE, 3)).convert(mode).save(tmp_path / "dog.tif")
    plain = loaded(tmp_path / "dog.tif", "L" if mode in ("1", "L") else "RGB")
    assert run_here("apply_kernel", "image=dog.tif", "kernel=identity").code == 0
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), plain)


def test_a_photo_is_turned_upright(run_here, tmp_path):
    pixels = noise(HIGH, WIDE, 3)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "dog.png", exif=exif)
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), pixels[::-1, ::-1])


def test_the_original_can_be_shown_on_the_left_in_a_folder_of_ones_own(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HIGH, WIDE, 4))
    done = run_here("apply_kernel", "image=dog.png", "kernel=edge", "side_by_side=true", "output=a,b/c")
    assert done.code == 0, done.err
    result = loaded(tmp_path / "a,b" / "c" / "dog_edge.png")
    np.testing.assert_array_equal(result[:, :WIDE], pixels)
    np.testing.assert_array_equal(result[:, WIDE:, :3], expected(pixels[..., :3], KERNELS["edge"]))


def test_it_says_what_it_did(run_here, tmp_path):
    saved(tmp_path / "dog.png", noise(HIGH, WIDE, 4))
    picture, kernel, how, written = run_here("apply_kernel", "image=dog.png", "implementation=roll").out.splitlines()
    assert picture.split() == ["picture", "dog.png:", f"{WIDE}x{HIGH}", "pixels,", "RGB", "with", "alpha,", "8", "bits"]
    assert kernel.endswith("emboss: [-2 -1 0] [-1 1 1] [0 1 2]")
    words = how.split()
    assert (words[1], words[3:]) == ("roll,", ["ms;", "padding", "reflect"])
    assert float(words[2]) > 0
    assert written.split() == ["written", "dog_emboss.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["image=cat.png"], "there is no picture cat.png; give the path of one (image)"),
        (["image=text.png"], "cannot read text.png as a picture"),
        (["image=half.png"], "cannot read half.png as a picture"),
        (["image=floats.tif"], "floats.tif holds floating-point numbers"),
        (["image=dog.png", "kernel=blur"], "there is no kernel 'blur'; choose emboss, sharpen, edge, identity or give"),
        (["image=dog.png", "kernel=[[1,2],[3]]"], "kernel=[[1, 2], [3]] must be rows of equally many numbers"),
        (["image=dog.png", "kernel=[]"], "kernel=[] must be rows of equally many numbers"),
        (["image=dog.png", "kernel=[1,2]"], "kernel=[1,2] is out of range"),
        (["image=dog.png", "kernel=[[a,b]]"], "kernel=[[a,b]] is out of range"),
        (["image=dog.png", "kernel=[[nan]]"], "kernel=[[nan]] is out of range"),
        (["image=dog.png", "padding_mode=black"], "padding_mode=black is out of range: give one of reflect,"),
        (["image=dot.png"], "a 3x3 kernel reaches too far over the border of 1x1 pixels for padding_mode reflect"),
        (["image=large.png", "implementation=loops"], "loops would take 360,000 multiplications for 200x200 pixels"),
        (["image=dog.png", "output=text.png/x"], "cannot write text.png/x/dog_emboss.png"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(run_here, tmp_path, arguments, sentence):
    saved(tmp_path / "dog.png", noise(HIGH, WIDE, 3))
    saved(tmp_path / "dot.png", noise(1, 1))
    saved(tmp_path / "large.png", noise(200, 200))
    saved(tmp_path / "floats.tif", np.zeros((HIGH, WIDE), np.float32))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "dog.png").read_bytes()[:200])
    before = set(tmp_path.rglob("*"))
    done = run_here("apply_kernel", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
