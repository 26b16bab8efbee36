"""The contrast transfer of the microscope: its formula, its estimation from the views, its correction, and what exposure leaves."""
