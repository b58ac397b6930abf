"""Charts and tables as PNG files and as HTML pages that need nothing else. Knows no model; no torch here."""
