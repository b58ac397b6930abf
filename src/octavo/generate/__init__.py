"""Generation: sampling, the engine, and the `LanguageModel` seam. Import the module you need; nothing loads here."""
