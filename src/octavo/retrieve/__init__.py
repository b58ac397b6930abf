"""Documents, chunks, stores, search and grounded answers. Import the module you need; nothing loads here."""
