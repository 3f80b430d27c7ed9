"""The published parameter counts, from the command that prints them."""

import pytest

RESNET18 = ("model=torchvision", "model.name=resnet18", "model.num_classes=1000", "data.image_size=224")
DOG_CAT_BIRD = ("experiment=dog_cat_bird", "data=folder")


def total(text: str) -> tuple[int, int]:
    """Parameters and MACs of the last row."""
    *_, parameters, macs = text.splitlines()[-1].split()
    return int(parameters.replace(",", "")), int(macs.replace(",", ""))


@pytest.fixture
def three_classes(tmp_path):
    """A folder with the classes of the dog-cat-bird data; describe looks at names only."""
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


def test_our_resnet18_has_the_same(run_here):
    ours = ("model.depth=18", "model.stem=7x7", "model.num_classes=1000", "data.image_size=224")
    assert total(run_here("describe", *ours).out) == total(run_here("describe", *RESNET18).out)


def test_the_table_is_aligned_and_adds_up(run_here):
    lines = run_here("describe", "model.depth=20").out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("layer "))
    rows = [line for line in lines[head + 1 :] if not line.startswith("-")]
    ends = {len(line) for line in [lines[head], *rows]}
    assert len(ends) == 1, "the last column is right-aligned"
    assert sum(int(row.split()[-1].replace(",", "")) for row in rows[:-1]) == total("\n".join(lines))[1]
    assert sum(int(row.split()[-2].replace(",", "")) for row in rows[:-1]) == total("\n".join(lines))[0]


def test_describe_leaves_nothing_behind(run_here, tmp_path):
    assert run_here("describe", "conv=dynamic").code == 0
    assert list(tmp_path.iterdir()) == []
