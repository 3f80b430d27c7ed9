"""`convbench.describe`: the published parameter counts and shapes, and the form of the table."""

import pytest

RESNET18 = ("model=torchvision", "model.name=resnet18", "model.num_classes=1000", "data.image_size=224")
GREY = ("data=fashion_mnist",)
DOG_CAT_BIRD = ("experiment=dog_cat_bird", "data=folder")


def total(text: str) -> tuple[int, int]:
    """The parameters and MACs in the last row."""
    *_, parameters, macs = text.splitlines()[-1].split()
    return int(parameters.replace(",", "")), int(macs.replace(",", ""))


@pytest.fixture
def three_classes(tmp_path):
    """A folder with the classes of the dog-cat-bird data set; `describe` reads only the names of the files."""
    for split in ("train", "val", "test"):
        for kind in ("bird", "cat", "dog"):
            folder = tmp_path / "dog_cat_bird" / split / kind
            folder.mkdir(parents=True)
            (folder / "0.png").touch()
    return f"datasets={tmp_path}"


@pytest.mark.parametrize(("conv", "parameters"), [("standard", 174_787), ("weighted_sum", 27_363)])
def test_the_dog_cat_bird_network_has_the_published_parameters(run_here, three_classes, conv, parameters):
    done = run_here("describe", "experiment=dog_cat_bird", f"conv={conv}", three_classes)
    assert done.code == 0, done.err
    assert total(done.out)[0] == parameters
    assert "skipped: conv1 (first)" in done.out


def test_torchvisions_resnet18_has_the_published_parameters(run_here):
    assert total(run_here("describe", *RESNET18).out)[0] == 11_689_512
    swapped = run_here("describe", *RESNET18, "conv=weighted_sum", "conv.bias=true")
    assert total(swapped.out)[0] == 1_958_824
    assert "20 of 20 convs are weighted_sum" in swapped.out


def test_our_resnet18_has_the_costs_of_torchvisions_resnet18(run_here):
    ours = ("model.depth=18", "model.stem=7x7", "model.num_classes=1000", "data.image_size=224")
    assert total(run_here("describe", *ours).out) == total(run_here("describe", *RESNET18).out)


def output_shapes(text: str, names: list[str]) -> str:
    """The output shapes of the named layers, in the order of the names."""
    rows = {words[0]: words[2] for words in map(str.split, text.splitlines()) if len(words) > 4}
    return " ".join(rows[name] for name in names)


@pytest.mark.parametrize(
    ("arguments", "layers", "shapes"),
    [
        pytest.param(
            ["model=lenet", *GREY],
            [
                "features.0",
                "features.2",
                "features.3",
                "features.5",
                *(f"classifier.{index}" for index in (0, 1, 3, 5)),
            ],
            "6x28x28 6x14x14 16x10x10 16x5x5 400 120 84 10",
            id="LeNet",
        ),
        pytest.param(
            ["model=vgg", "model.widths=null", "model.hidden=4096", "model.norm=false", *GREY, "data.image_size=224"],
            [
                *(f"features.{pool}" for pool in ("0.2", "1.2", "2.4", "3.4", "4.4")),
                *(f"classifier.{index}" for index in (0, 1, 4, 7)),
            ],
            "64x112x112 128x56x56 256x28x28 512x14x14 512x7x7 25088 4096 4096 10",
            id="VGG-11",
        ),
        pytest.param(
            ["model.depth=18", "model.stem=7x7", *GREY, "data.image_size=96"],
            ["maxpool", "layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2", "fc"],
            "64x24x24 64x24x24 128x12x12 256x6x6 512x3x3 10",
            id="ResNet-18",
        ),
        pytest.param(
            ["model=mnist_net", "data=mnist"],
            ["features.0", "features.2", "features.4", "features.5", "features.7", "features.9", "classifier.0"],
            "3x26x26 3x24x24 3x12x12 6x10x10 6x8x8 6x4x4 96",
            id="the MNIST network",
        ),
    ],
)
def test_the_output_shapes_are_those_of_the_publications(run_here, arguments, layers, shapes):
    assert output_shapes(run_here("describe", *arguments).out, layers) == shapes


def test_the_table_is_aligned_and_its_totals_are_sums(run_here):
    lines = run_here("describe", "model.depth=20").out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("layer "))
    rows = [line for line in lines[head + 1 :] if not line.startswith("-")]
    ends = {len(line) for line in [lines[head], *rows]}
    assert len(ends) == 1, "the last column is right-aligned"
    assert sum(int(row.split()[-1].replace(",", "")) for row in rows[:-1]) == total("\n".join(lines))[1]
    assert sum(int(row.split()[-2].replace(",", "")) for row in rows[:-1]) == total("\n".join(lines))[0]


def test_describe_writes_no_files(run_here, tmp_path):
    assert run_here("describe", "conv=dynamic").code == 0
    assert list(tmp_path.iterdir()) == []
