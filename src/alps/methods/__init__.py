"""Methods: how heads are chosen and what is trained. One class each; see docs/add_a_method.md."""
