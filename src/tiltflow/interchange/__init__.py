"""What other programs read: the geometry of a series, written in the files and by the conventions of each.

The results of tiltflow have IMOD's names, but no other program takes all it needs from them alone: where views are left out, how the
specimen is levelled, how long a view had been exposed.  :data:`tiltflow.interchange.targets.TARGETS` lists the programs that
are written for; command, settings and documentation walk that table.  Axes, signs and centres are converted in
:mod:`tiltflow.geometry` alone.
"""
