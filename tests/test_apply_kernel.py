"""`python -m convbench.apply_kernel`: the filtered image, its file, and errors."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convbench.apply_kernel import KERNELS
from convbench.convs.from_scratch import FromScratchConv2d

HEIGHT, WIDTH = 9, 13
IMPLEMENTATIONS = (*FromScratchConv2d.implementations, "library")
MODES = {"reflect": "reflect", "zeros": "constant", "replicate": "edge", "circular": "wrap"}  # their names in np.pad


def noise(*shape: int, top: int = 255) -> np.ndarray:
    """A random image with values from 0 to `top`."""
    dtype = np.uint8 if top == 255 else np.uint16
    return np.random.default_rng(0).integers(0, top, shape, dtype, endpoint=True)


def saved(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Save an image, and return it."""
    Image.fromarray(pixels).save(path)
    return pixels


def loaded(path: Path, mode: str | None = None) -> np.ndarray:
    """Load an image, and convert it to a mode of Pillow."""
    with Image.open(path) as image:
        return np.asarray(image if mode is None else image.convert(mode))


def expected(pixels: np.ndarray, kernel: list[list[float]], mode: str = "reflect", top: int = 255) -> np.ndarray:
    """The cross-correlation by its definition: one sum for each pixel and channel."""
    weights = np.array(kernel, dtype=float)
    height, width = weights.shape
    before = (height - 1) // 2, (width - 1) // 2
    padding = [(before[0], height - 1 - before[0]), (before[1], width - 1 - before[1])]
    channels = pixels if pixels.ndim == 3 else pixels[..., None]
    padded = np.pad(channels.astype(float), [*padding, (0, 0)], mode)
    result = np.zeros(channels.shape)
    for row, column, channel in np.ndindex(*channels.shape):
        result[row, column, channel] = (padded[row : row + height, column : column + width, channel] * weights).sum()
    return result.round().clip(0, top).astype(pixels.dtype).reshape(pixels.shape)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_result_equals_the_definition_and_is_written_beside_the_image(run_here, tmp_path, kernel):
    (tmp_path / "my pets").mkdir()
    pixels = saved(tmp_path / "my pets" / "dog=1.png", noise(HEIGHT, WIDTH, 3))
    done = run_here("apply_kernel", "image=my pets/dog=1.png", f"kernel={kernel}")
    assert done.code == 0, done.err
    result = loaded(tmp_path / "my pets" / f"dog=1_{kernel}.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS[kernel]))
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_the_kernel_identity_does_not_change_the_pixels(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 3))
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), pixels)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_image_of_one_colour_does_not_change_and_has_no_edges(run_here, tmp_path, kernel):
    pixels = saved(tmp_path / "uniform.png", np.full((HEIGHT, WIDTH, 3), (20, 90, 200), np.uint8))
    run_here("apply_kernel", "image=uniform.png", f"kernel={kernel}")
    np.testing.assert_array_equal(loaded(tmp_path / f"uniform_{kernel}.png"), 0 if kernel == "edge" else pixels)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_implementation_gives_the_same_image(run_here, tmp_path, implementation):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 3))
    done = run_here("apply_kernel", "image=dog.png", "kernel=emboss", f"implementation={implementation}")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(loaded(tmp_path / "dog_emboss.png"), expected(pixels, KERNELS["emboss"]))


@pytest.mark.parametrize("implementation", [name for name in IMPLEMENTATIONS if name not in FromScratchConv2d.limits])
@pytest.mark.parametrize("rows", [[[1, -1]], [[1, 2, 0, 0], [-1, 0, 1, 1]], [[2]], [[-1], [0], [0], [0], [2]]])
def test_a_kernel_may_have_any_size(run_here, tmp_path, implementation, rows):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 3))
    done = run_here("apply_kernel", "image=dog.png", f"kernel={rows}", f"implementation={implementation}")
    assert done.code == 0, done.err
    result = loaded(tmp_path / f"dog_{len(rows)}x{len(rows[0])}.png")
    np.testing.assert_array_equal(result, expected(pixels, rows))


def test_an_unknown_implementation_is_an_error_that_names_all_implementations_and_so_does_the_help_page(
    run_here, tmp_path
):
    saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH))
    done = run_here("apply_kernel", "image=dog.png", "implementation=fast")
    assert done.code == 2
    assert all(name in done.err for name in IMPLEMENTATIONS)
    assert "(implementation)" in done.err
    page = run_here("apply_kernel", "--help").out
    assert all(name in page for name in IMPLEMENTATIONS)


@pytest.mark.parametrize("padding", MODES)
def test_the_padding_mode_sets_the_pixels_beyond_the_border(run_here, tmp_path, padding):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH))
    run_here("apply_kernel", "image=dog.png", "kernel=emboss", f"padding_mode={padding}")
    result = loaded(tmp_path / "dog_emboss.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS["emboss"], MODES[padding]))


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 2), (HEIGHT, WIDTH, 4)], ids=["grey", "RGB"])
def test_the_alpha_channel_does_not_change(run_here, tmp_path, shape):
    pixels = saved(tmp_path / "dog.png", noise(*shape))
    run_here("apply_kernel", "image=dog.png", "kernel=sharpen")
    result = loaded(tmp_path / "dog_sharpen.png")
    np.testing.assert_array_equal(result[..., -1], pixels[..., -1])
    np.testing.assert_array_equal(result[..., :-1], expected(pixels[..., :-1], KERNELS["sharpen"]))


def test_a_grey_image_of_16_bits_keeps_its_depth(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, top=65535))
    assert "16 bits" in run_here("apply_kernel", "image=dog.png", "kernel=sharpen").out
    result = loaded(tmp_path / "dog_sharpen.png")
    np.testing.assert_array_equal(result, expected(pixels, KERNELS["sharpen"], top=65535))


def test_a_palette_image_becomes_rgb_and_keeps_its_transparent_pixels(run_here, tmp_path):
    picture = Image.fromarray(noise(HEIGHT, WIDTH, 3)).quantize(8)
    picture.save(tmp_path / "dog.png")
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), np.asarray(picture.convert("RGB")))
    picture.save(tmp_path / "cat.gif", transparency=3)
    run_here("apply_kernel", "image=cat.gif", "kernel=identity")
    result = loaded(tmp_path / "cat_identity.png")
    alpha = loaded(tmp_path / "cat.gif", "RGBA")[..., 3]
    assert set(np.unique(alpha)) == {0, 255}
    np.testing.assert_array_equal(result[..., 3], alpha)


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "L", "RGB"])
def test_images_of_other_modes_are_converted_to_grey_or_rgb(run_here, tmp_path, mode):
    Image.fromarray(noise(HEIGHT, WIDTH, 3)).convert(mode).save(tmp_path / "dog.tif")
    plain = loaded(tmp_path / "dog.tif", "L" if mode in ("1", "L") else "RGB")
    assert run_here("apply_kernel", "image=dog.tif", "kernel=identity").code == 0
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), plain)


def test_the_orientation_in_the_exif_data_is_applied(run_here, tmp_path):
    pixels = noise(HEIGHT, WIDTH, 3)
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: rotated by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "dog.png", exif=exif)
    run_here("apply_kernel", "image=dog.png", "kernel=identity")
    np.testing.assert_array_equal(loaded(tmp_path / "dog_identity.png"), pixels[::-1, ::-1])


def test_the_original_can_be_written_on_the_left_of_the_result_to_another_folder(run_here, tmp_path):
    pixels = saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 4))
    done = run_here("apply_kernel", "image=dog.png", "kernel=edge", "side_by_side=true", "output=a,b/c")
    assert done.code == 0, done.err
    result = loaded(tmp_path / "a,b" / "c" / "dog_edge.png")
    np.testing.assert_array_equal(result[:, :WIDTH], pixels)
    np.testing.assert_array_equal(result[:, WIDTH:, :3], expected(pixels[..., :3], KERNELS["edge"]))


def test_the_output_describes_image_kernel_implementation_and_file(run_here, tmp_path):
    saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 4))
    image, kernel, how, written = run_here("apply_kernel", "image=dog.png", "implementation=roll").out.splitlines()
    assert all(fact in image for fact in ("dog.png", f"{WIDTH}x{HEIGHT}", "RGB", "alpha", "8 bits"))
    assert kernel.endswith("emboss: [-2 -1 0] [-1 1 1] [0 1 2]")
    assert "roll" in how
    assert "reflect" in how
    milliseconds = re.search(r"(\d+\.\d+) ms", how)
    assert float(milliseconds[1]) > 0
    assert written.split()[-1] == "dog_emboss.png"


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["image=cat.png"], ["cat.png", "(image)"]),
        (["image=text.png"], ["text.png", "(image)"]),
        (["image=half.png"], ["half.png", "(image)"]),
        (["image=floats.tif"], ["floats.tif", "floating", "(image)"]),
        (["image=dog.png", "kernel=blur"], ["'blur'", "emboss, sharpen, edge, identity", "(kernel)"]),
        (["image=dog.png", "kernel=[[1,2],[3]]"], ["kernel=[[1, 2], [3]]", "(kernel)"]),
        (["image=dog.png", "kernel=[]"], ["kernel=[]", "(kernel)"]),
        (["image=dog.png", "kernel=[1,2]"], ["kernel=[1,2]"]),
        (["image=dog.png", "kernel=[[a,b]]"], ["kernel=[[a,b]]"]),
        (["image=dog.png", "kernel=[[nan]]"], ["kernel=[[nan]]"]),
        (["image=dog.png", "padding_mode=black"], ["padding_mode=black", "reflect"]),
        (["image=dot.png"], ["3x3", "1x1", "reflect", "(padding_mode)"]),
        (["image=large.png", "implementation=loops"], ["loops", "360,000", "200x200", "(implementation)"]),
        (["image=dog.png", "output=text.png/x"], ["text.png/x/dog_emboss.png", "(output)"]),
    ],
)
def test_invalid_input_is_an_error_with_exit_code_2_and_writes_no_file(run_here, tmp_path, arguments, facts):
    saved(tmp_path / "dog.png", noise(HEIGHT, WIDTH, 3))
    saved(tmp_path / "dot.png", noise(1, 1))
    saved(tmp_path / "large.png", noise(200, 200))
    saved(tmp_path / "floats.tif", np.zeros((HEIGHT, WIDTH), np.float32))
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "half.png").write_bytes((tmp_path / "dog.png").read_bytes()[:200])
    before = set(tmp_path.rglob("*"))
    done = run_here("apply_kernel", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert all(fact in done.err for fact in facts), done.err
    assert done.err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
