# %% [markdown]
# # A series without gold
#
# Gold is asked for, as a facility's template does, but the specimen holds none. The fallback methods take over: patches of texture
# first, then matching with projections. Every attempt stands in the evidence, with its reason or its figures.

# %%
import matplotlib.pyplot as plt

import tiltflow

simulated = tiltflow.simulate(seed=3, size=192, views=25, beads=0, thickness_px=60, dose=800)
alignment = tiltflow.align(simulated.series, method="gold", fallback=True)
for attempt in alignment.evidence.attempts:
    outcome = attempt.get("failed") or f"estimated error {attempt['error_px']:.2f} px"
    print(f"{attempt['method']}: {outcome}")
print(f"used: {alignment.method}, true error {simulated.error_of(alignment).rms_px:.2f} px")
print("trust warnings:", list(alignment.evidence.trust_warnings) or "none")

# %% [markdown]
# ## What each method says, and what is true
#
# Without fallback a method is used whatever it says of itself.

# %%
methods = ("patches", "projection", "coarse")
found = {method: tiltflow.align(simulated.series, method, fallback=False) for method in methods}
true = [simulated.error_of(found[method]).rms_px for method in methods]
estimated = [found[method].evidence.error_px or 0.0 for method in methods]
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
places = range(len(methods))
axes.bar([place - 0.2 for place in places], true, 0.38, label="true error")
axes.bar([place + 0.2 for place in places], estimated, 0.38, label="estimated error (none for coarse)")
axes.set_xticks(places, methods)
axes.set(ylabel="error (px)", title="Alignment without gold")
axes.legend()
plt.show()
