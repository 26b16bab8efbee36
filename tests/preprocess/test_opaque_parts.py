"""Shadows of opaque things in single views: found, replaced by the level around, and told from what belongs to the specimen."""

import numpy as np
import pytest

from tiltflow.binning import bin_image
from tiltflow.preprocess.binned_views import read_binned
from tiltflow.preprocess.opaque_parts import without_opaque_parts

LEVEL, SIZE, VIEWS = 1000.0, 160, 9
ALL = np.ones(VIEWS, bool)


@pytest.fixture
def views(rng):
    """Views of a specimen with some contrast, counted with noise."""
    return (LEVEL + rng.normal(0, 60, (VIEWS, SIZE, SIZE))).astype(np.float32)


def bar(images, view, rows, light=0.03):
    """Cover the lowest rows of a view, with an edge a few pixels wide."""
    y = np.arange(SIZE)[:, None]
    through = light + (1 - light) / (1 + np.exp(-(y - rows) / 1.5))
    images[view] *= through


def slope(images, view):
    """Let the light fall off over the lower half of a view, down to a twentieth."""
    images[view] *= np.clip(np.linspace(0.05, 2.0, SIZE), None, 1)[:, None]


def test_a_bar_is_replaced_by_the_level_around_it_and_no_edge_is_left(views):
    kept = views.copy()
    bar(views, 2, 40)
    found = without_opaque_parts(views, ALL)
    assert found.parts == {2: pytest.approx(40 / SIZE, abs=0.03)}
    assert found.shape == views.shape
    filled = found[2]
    assert np.abs(filled.mean(axis=1) / LEVEL - 1).max() < 0.1
    np.testing.assert_allclose(filled[60:], kept[2, 60:], atol=0.01)
    assert np.array_equal(found[3], kept[3])


def test_counts_of_zero_in_the_shadow_do_not_matter(views):
    bar(views, 2, 40, light=0.0)
    assert np.abs(without_opaque_parts(views, ALL)[2].mean(axis=1) / LEVEL - 1).max() < 0.1


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda images: bar(images, 2, 40, light=0.3), "a thick specimen lets light through", id="some light"),
        pytest.param(lambda images: [bar(images, view, 40) for view in range(7)], "most views have it", id="most views"),
        pytest.param(lambda images: slope(images, 2), "it grows as a thick specimen does", id="a slope"),
        pytest.param(lambda images: bar(images, 2, 2), "it covers next to nothing", id="a narrow one"),
        pytest.param(lambda images: images.__setitem__((2, slice(60, 100), slice(60, 100)), 20.0), "it is inside", id="an island"),
        pytest.param(lambda images: np.subtract(images, LEVEL, out=images), "there is no level", id="images without a mean"),
        pytest.param(lambda images: None, "there is nothing", id="nothing"),
    ],
)
def test_what_is_not_the_shadow_of_an_opaque_thing_stays(views, spoil, why):
    spoil(views)
    found = without_opaque_parts(views, ALL)
    assert found.parts == {}, why
    assert np.array_equal(found[2], views[2])


def test_views_left_out_are_not_looked_at_and_few_views_tell_nothing(views):
    bar(views, 2, 40)
    assert without_opaque_parts(views, np.arange(VIEWS) != 2).parts == {}
    assert without_opaque_parts(views[:4], ALL[:4]).parts == {}


class Counted:
    """A stack that counts how often each view is read."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, [0] * len(images)

    def __getitem__(self, view):
        self.read[view] += 1
        return self.images[view]


@pytest.mark.parametrize("size", [200, 256, 300, 530])
def test_small_images_are_kept_of_views_that_need_no_repair(rng, size):
    views = (LEVEL + rng.normal(0, 60, (VIEWS, size, size))).astype(np.float32)
    views[2, : size // 4] *= 0.03
    stack = Counted(views)
    found = without_opaque_parts(stack, np.arange(VIEWS) != 4)
    assert list(found.parts) == [2]
    factor = -(-size // 256)
    for view in range(VIEWS):
        np.testing.assert_allclose(found.binned(view, factor), bin_image(found[view], factor), rtol=1e-6)
        np.testing.assert_allclose(found.binned(view, factor + 1), bin_image(found[view], factor + 1), rtol=1e-6)
    before = list(stack.read)
    binned = read_binned(found, np.arange(VIEWS), 256)
    assert [after - earlier for after, earlier in zip(stack.read, before, strict=True)] == [view in (2, 4) for view in range(VIEWS)]
    np.testing.assert_array_equal(
        binned.images, read_binned(np.stack([found[view] for view in range(VIEWS)]), np.arange(VIEWS), 256).images
    )
