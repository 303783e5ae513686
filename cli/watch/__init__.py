"""``hsm operator watch``: the operators' screen, and plain text where there is no terminal to draw on."""
