"""Alignment: every view's place in the geometry of one specimen.

One package a method (:mod:`~tiltflow.align.coarse`, :mod:`~tiltflow.align.beads`, :mod:`~tiltflow.align.patches`,
:mod:`~tiltflow.align.projection`), the bundle adjustment that beads and patches share (:mod:`~tiltflow.align.bundle`), what carries
each method out (:mod:`~tiltflow.align.methods`), and the policy that decides which method comes next and whose result is used
(:mod:`~tiltflow.align.fallback`).

What each numeric constant of these packages is worth, halved and doubled on simulated series, is in `docs/sensitivity/align.md`
(`benchmarks/sensitivity.py`); the reason for its value is beside it.
"""
