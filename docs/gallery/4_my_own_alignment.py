# %% [markdown]
# # My own alignment
#
# An alignment is a transform and a tilt for every view. It may come from anywhere: another program, a manual alignment, an idea that
# you want to try. Here the geometry that the simulator knows is disturbed on purpose.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tiltflow
from tiltflow import geometry

simulated = tiltflow.simulate(seed=7, size=192, views=25, beads=14, thickness_px=60, pixel_nm=2, bead_nm=18)
truth = simulated.truth


def alignment_with(axis_error_deg: float) -> tiltflow.Alignment:
    """Return the true alignment with its tilt axis turned."""
    turned = geometry.rotation(-axis_error_deg) @ truth.transforms()[:, :, :2]
    shift = np.einsum("ij,vj->vi", geometry.rotation(-axis_error_deg), truth.transforms()[:, :, 2])
    return tiltflow.Alignment(
        transforms=geometry.transform(turned, shift),
        tilt_deg=truth.true_deg,
        included=np.ones(len(truth.true_deg), bool),
        method="by hand",
    )


# %% [markdown]
# ## A tilt axis that is off
#
# What a wrong axis angle does to a bead: it is drawn out into an arc. Files of other programs hold the same numbers; transforms of
# IMOD are read by `tiltflow.formats.transforms.read_transforms("TS_01.xf")`.

# %%
x, y, z = truth.beads_px[np.argmin(np.abs(truth.beads_px[:, :2]).max(axis=1))]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for axis, error_deg in zip(axes, (0.0, 2.0, 6.0), strict=True):
    mine = alignment_with(error_deg)
    volume = tiltflow.reconstruct(tiltflow.apply(simulated.series, mine), mine, thickness=100)
    i, j, k = (round(c + n / 2) for c, n in zip((z, y, x), volume.shape, strict=True))
    axis.imshow(volume[i, max(j - 24, 0) : j + 24, max(k - 24, 0) : k + 24], cmap="gray", origin="lower")
    axis.set(title=f"axis off by {error_deg:g}°: {simulated.error_of(mine).rms_px:.1f} px", xticks=[], yticks=[])
plt.show()
