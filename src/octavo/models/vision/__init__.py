"""Language models that see: an image encoder, a projector and a decoder, read from one folder."""
