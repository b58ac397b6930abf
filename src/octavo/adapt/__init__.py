"""Surgery on a model, without a loop of its own: low-rank adapters (`lora.py`) and the folders that hold them."""
