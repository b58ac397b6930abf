"""One file a training method: what a batch is made of and what it is asked to lower."""
