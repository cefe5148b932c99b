"""How the study's results are shown: tables, plots, pages."""
