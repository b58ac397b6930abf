"""What should not pass, found before it does: a model that judges what people and models say."""
