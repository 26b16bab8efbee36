# %% [markdown]
# # SIRT
#
# Weighted back-projection is fast and exact where views are many and clean. At a low dose SIRT, whose projections agree with the
# views, shows less noise; the number of iterations trades noise against detail.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tiltflow

simulated = tiltflow.simulate(seed=5, size=192, views=25, beads=14, thickness_px=60, pixel_nm=2, bead_nm=18, dose=40)
alignment = tiltflow.align(simulated.series, gold_nm=18)
aligned = tiltflow.apply(simulated.series, alignment)
volumes = {"weighted back-projection": tiltflow.reconstruct(aligned, alignment, thickness=100)}
for iterations in (4, 12):
    volumes[f"SIRT, {iterations} iterations"] = tiltflow.reconstruct(
        aligned, alignment, thickness=100, method="sirt", iterations=iterations
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
for axis, (name, volume) in zip(axes, volumes.items(), strict=True):
    shown = volume[50]
    low, high = np.percentile(shown, [0.5, 99.5])
    axis.imshow(shown, cmap="gray", origin="lower", vmin=low, vmax=high)
    axis.set(title=name, xticks=[], yticks=[])
plt.show()
