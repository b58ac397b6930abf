"""Files and vector stores behind their routes: bytes on disk, indexes, and the task that fills them."""
