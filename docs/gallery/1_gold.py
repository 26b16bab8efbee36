# %% [markdown]
# # A series with gold beads
#
# From raw views to a level volume, with the figures that say how good it is. The series is simulated, so that the truth is known;
# with a file of your own, begin with `series = tiltflow.read("TS_01.st")`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tiltflow

simulated = tiltflow.simulate(
    seed=1, size=256, views=31, beads=14, two_surfaces=True, thickness_px=60, pixel_nm=2, bead_nm=18, pitch_deg=3
)
series = simulated.series

# %% [markdown]
# ## Align
#
# Beads are found, tracked and solved for the geometry of every view. The *leave-out error* is the distance of beads to where a fit
# that has not seen them puts them; the *estimated alignment error* is what the method believes its own error to be. Trust warnings
# are empty for a sound alignment.

# %%
alignment = tiltflow.align(series, method="gold", gold_nm=18)
evidence = alignment.evidence
print(f"aligned by {alignment.method} with {evidence.tracks_used} beads")
print(f"residual {evidence.residual_mean_px:.2f} px, leave-out error {evidence.leave_out_px:.2f} px")
print(f"estimated alignment error {evidence.error_px:.2f} px, true error {simulated.error_of(alignment).rms_px:.2f} px")
print("trust warnings:", list(evidence.trust_warnings) or "none")

# %% [markdown]
# ## Locate the specimen and reconstruct
#
# The section is levelled and centred, and the volume made as thick as the section and a margin.

# %%
specimen = tiltflow.locate_specimen(series, alignment)
alignment = specimen.level(alignment, margin=40)
print(f"thickness {specimen.thickness:.0f} ± {specimen.thickness_error:.0f} px, pitch {-alignment.x_axis_tilt_deg:+.1f}°")
aligned = tiltflow.apply(series, alignment)
volume = tiltflow.reconstruct(aligned, alignment)
print("volume (z, y, x):", volume.shape)

# %%
figure, (top, side) = plt.subplots(1, 2, figsize=(9, 4.6), width_ratios=(2, 1), layout="constrained")
low, high = np.percentile(volume, [0.5, 99.5])
window = {"cmap": "gray", "origin": "lower", "vmin": low, "vmax": high}
middle = volume.shape[0] // 2
top.imshow(volume[middle - 2 : middle + 3].mean(axis=0), **window)
top.set(title="XY slice", xlabel="x (px)", ylabel="y (px)")
side.imshow(volume[:, 120:136].mean(axis=1).T, **window)
side.set(title="XZ slice", xlabel="z (px)", ylabel="x (px)")
plt.show()
