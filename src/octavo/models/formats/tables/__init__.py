"""What the formats of files define, as tables: types of values and tensors, fields of adapters."""
