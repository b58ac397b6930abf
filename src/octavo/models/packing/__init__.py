"""From a file's weights to the kernels': quantised where asked, kept on disk as they were packed."""
