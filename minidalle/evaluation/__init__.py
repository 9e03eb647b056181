"""How good a bundle is: the report and its measures."""
