"""Questions about the Open-LLMs table, each row of it a passage, in SQuAD's layout: what RAG's recipe trains on.

python examples/open_llms_questions.py > open-llms.json
octavo train recipes/rag.toml --data open-llms.json
"""

import json

from octavo.examine.catalogue.open_llms import open_models

ASKED = {
    "released": ("When was {} released?", "What is the release date of {}?", "Since when is there {}?"),
    "licence": ("Which licence has {}?", "Under what licence is {}?", "How is {} licensed?"),
    "parameters": ("How many billion parameters has {}?", "How large is {}?", "What sizes does {} come in?"),
    "context": ("How long is the context of {}?", "How many tokens does {} read?", "What is {}'s context length?"),
}


def article(name, facts, row):
    text = "; ".join(f"{fact}: {value}" for fact, value in facts.items())
    context = f"{name}. {text}."
    asked = []
    for fact, value in facts.items():
        for number, form in enumerate(ASKED[fact]):
            start = context.index(f"{fact}: {value}") + len(fact) + 2
            answers = [{"text": value, "answer_start": start}]
            asked.append({"id": f"{row}-{fact}-{number}", "question": form.format(name), "answers": answers})
    return {"title": name, "paragraphs": [{"context": context, "qas": asked}]}


def size(model):
    billions = [f"{count / 1e9:g}" for count in (model.params_min, model.params_max)]
    return billions[0] if billions[0] == billions[1] else " to ".join(billions)


data = []
for row, model in enumerate(sorted(open_models(), key=lambda model: model.name)):
    facts = {
        "released": model.released,
        "licence": " and ".join(model.licences),
        "parameters": size(model),
        "context": "without a bound" if model.context is None else str(model.context),
    }
    data.append(article(model.name, facts, row))
print(json.dumps({"version": "open-llms", "data": data}, ensure_ascii=False))
