"""The report of a run: report.md, index.html and their figures."""
