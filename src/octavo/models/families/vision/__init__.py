"""The rows of vision-language folders: what an image's encoder is, and what leads from it into a language model."""
