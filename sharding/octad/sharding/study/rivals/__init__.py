"""Every scheme of the comparison, behind the interface in `scheme.py`."""
