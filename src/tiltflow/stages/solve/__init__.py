"""Bundle adjustment: tracks of features in, the geometry of every view out.  Answers to IMOD's tiltalign."""

from tiltflow.stages.solve.adjust import solve
from tiltflow.stages.solve.params import LocalParams, SolveParams
from tiltflow.stages.solve.solution import Solution, project_solution, triangulate

__all__ = ["LocalParams", "Solution", "SolveParams", "project_solution", "solve", "triangulate"]
