"""How numbers are stored: bf16, 8-bit floats, int8 codes, small whole numbers side by side, groups of columns."""
