"""Images in: pictures to pixels, and answers to a text with pictures in it."""
