"""What the engine runs: completions, beam searches, scorings. Each says which logits it wants and reads them."""
