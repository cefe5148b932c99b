"""Output of the study: tables, plots, pages."""
