"""An answer as it comes."""

import octavo
from octavo.generate.lm import Delta, Finished

with octavo.load("smollm2-135m-instruct") as model:
    messages = [
        {"role": "system", "content": "You are a poet. Answer with one line."},
        {"role": "user", "content": "Write about the sea."},
    ]
    for event in model.stream(octavo.Request(messages, max_tokens=40, sampling=octavo.Sampling(seed=1, top_p=0.9))):
        if isinstance(event, Delta):
            print(event.text, end="", flush=True)
        elif isinstance(event, Finished):
            print(f"\n{event.completion_tokens} tokens, ended by {event.reason}")
