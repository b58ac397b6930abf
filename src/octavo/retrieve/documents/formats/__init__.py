"""One file a format, each with `read(path, limits) -> Document`. Import the module you need; nothing loads here."""
