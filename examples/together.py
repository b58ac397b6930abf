"""Several requests at once: the engine runs them in one batch, and each answer is the one it would get alone."""

from concurrent.futures import ThreadPoolExecutor

import octavo

questions = ["Name a fruit.", "Name a river.", "Name a colour.", "Name a planet."]

with octavo.load("smollm2-135m-instruct") as model, ThreadPoolExecutor() as pool:
    requests = [
        octavo.Request([{"role": "user", "content": text}], max_tokens=16, sampling=octavo.Sampling(temperature=0))
        for text in questions
    ]
    answers = list(pool.map(lambda request: octavo.complete(model, request), requests))
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question} {answer.text!r}")
    assert answers[0].text == octavo.complete(model, requests[0]).text
