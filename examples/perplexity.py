"""Which of two texts does the model find likelier?"""

import math

import octavo

texts = ["The cat sat on the mat.", "The mat sat on the cat."]

with octavo.load("smollm2-135m-instruct") as model:
    for text in texts:
        logprobs = [value for value in model.score(text).logprobs if value is not None]
        print(f"{math.exp(-sum(logprobs) / len(logprobs)):8.1f}  {text}")
