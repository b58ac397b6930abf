"""Writes `published/`: the three checkpoints of ckiptagger's data folder with random weights, and its own answers.

Not a test: it needs TensorFlow 2.15 and the source of ckiptagger 0.2 on the path, whose code it calls as it is, with a
hidden size of 5 instead of 500. python make_published.py FOLDER
"""

# mypy: ignore-errors

from __future__ import annotations

import itertools
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import tensorflow as tf
from ckiptagger import api, model_ner, model_pos, model_ws

SENTENCES = [
    "傅達仁今將執行安樂死，卻突然爆出自己20年前遭緯來體育台封殺。",
    "",
    "土地公有政策?？還是土地婆有政策。.",
    "… 你確定嗎… 不要再騙了……",
    "最多容納59,000個人,或5.9萬人.",
    "　ＡＢＣ ﬁve ½ ㎏ 한국 é́ 👩‍👩‍👧 x",
    "㎏½ﬁ한국éﬂ㎞①ǅ…㎏㎏½½ﬁ한국한국éé㎞㎞①①ﬂﬂ…½㎏",
    "科長說:1,坪數對人數為1:3。2,可以再增加。",
]
WORDS = "土地,土地公,公有,政策,還是,今,將,執行,安樂死,人,個,不要,騙,了,年,20,可以,增加,科長,說,。,，".split(",")  # noqa: SIM905
TAGS = ["Na", "Nb", "VC", "D", "DE", "Nh", "COMMACATEGORY", "PERIODCATEGORY"]
RECOMMENDED = {"土地公": 1, "公有": 2, "政策": 1, "突然爆出": 3, "個人": 1}
COERCED = {"土地婆": 1, "安樂死，卻": 1, "死，卻突": 5, "再騙": 2}
HIDDEN, VECTOR = 5, 6
NAMES = {
    "model_ws": "model_asbc_Att-0_BiLSTM-cross-2-500_batch128-run1",
    "model_pos": "model_asbc_Att-0_BiLSTM-2-500_batch256-run1",
    "model_ner": "model_ontochinese_Att-0_BiLSTM-2-500_batch128-run1",
}


def main(out: Path) -> None:
    for module in (model_ws, model_pos, model_ner):
        module.Model = smaller(module.Model)
    write_tables(out, np.random.default_rng(7))
    vectors = {name: api._load_embedding(str(out / f"embedding_{name}")) for name in ("character", "word")}
    read = {"w_token_to_vector": vectors["character"][0], "w_embedding_d": VECTOR, "is_cross_bilstm": True}
    write_model(model_ws, out / "model_ws", [11], **read)
    read = {f"{name[0]}_token_to_vector": table for name, (table, _) in vectors.items()}
    read |= {"c_embedding_d": VECTOR, "w_embedding_d": VECTOR}
    labels, indices = api._read_pos_list(str(out / "model_pos/label_list.txt"))
    own = {"label_list": labels, "label_to_index": indices, "output_d": len(labels)}
    write_model(model_pos, out / "model_pos", [12], **read, **own)
    labels, indices = api._read_entity_type_list(str(out / "model_ner/label_list.txt"))
    own = {"label_list": labels, "label_to_index": indices, "output_d": len(labels)}
    own |= {"pos_to_index": api._read_pos_list(str(out / "model_ner/pos_list.txt"))[1], "w_feature_d": len(TAGS)}
    write_model(model_ner, out / "model_ner", itertools.count(), ends_in_a_part, **read, **own)
    answers = ask(out)
    (out / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def smaller(model):
    def made(config):
        config.hidden_d = HIDDEN
        return model(config)

    return made


def write_tables(out: Path, rng) -> None:
    characters = sorted({c for sentence in SENTENCES for c in unicodedata.normalize("NFKD", sentence)})
    known = [character for index, character in enumerate(characters) if index % 7 != 3]
    for name, tokens in (("embedding_character", known), ("embedding_word", WORDS)):
        (out / name).mkdir(parents=True, exist_ok=True)
        np.save(out / name / "token_list.npy", np.array(tokens))
        np.save(out / name / "vector_list.npy", rng.normal(size=(len(tokens), VECTOR)).astype(np.float32))
    counted = "".join(f"{tag} {100 - index}\n" for index, tag in enumerate(TAGS))
    for name, text in (
        ("model_ws/.", ""),
        ("model_pos/label_list.txt", counted),
        ("model_ner/pos_list.txt", counted),
        ("model_ner/label_list.txt", "PERSON 9\nDATE 5\n"),
    ):
        (out / name).parent.mkdir(exist_ok=True)
        if text:
            (out / name).write_text(text)


def write_model(module, folder: Path, seeds, wanted=lambda model: True, **settings) -> None:
    """Weights of the first seed whose answers have what is wanted."""
    config = module.Config()
    config.name, config.attention_heads, config.layers = NAMES[folder.name], 0, 2
    for name, value in settings.items():
        setattr(config, name, value)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        model = module.Model(config)
        model.sess = session
        session.run(tf.compat.v1.global_variables_initializer())
        for seed in seeds:
            rng = np.random.default_rng(seed)
            for variable in tf.compat.v1.trainable_variables():
                scale = 0.2 if "bias" in variable.name else 3.0 if "output" in variable.name else 1.3
                variable.load((rng.normal(size=variable.shape) * scale).astype(np.float32), session)
            if wanted(model):
                break
        tf.compat.v1.train.Saver().save(session, str(folder / config.name), write_meta_graph=False)
    (folder / "checkpoint").unlink()


def ends_in_a_part(model) -> bool:
    """Whether entities begin and go on in characters whose later parts, when normalised, end them."""
    odd = SENTENCES[6]
    words = [unicodedata.normalize("NFKD", character) for character in odd]
    text, sources = api._normalize_sentence(odd)
    labels = model.predict_label_for_a_batch([(words, ["Na"] * len(words), ["O"] * len(text))])[0]
    hits, last = set(), "O"
    for label, source in zip(labels, sources, strict=True):
        if source >= 0:
            last = label
        elif label[-1] == "E" and last != "O" and last[:-2] == label[:-2] and last[-1] in "BI":
            hits.add(last[-1])
    return len(hits) == 2 and len(set(labels)) > 5


def ask(out: Path) -> dict:
    ws, pos, ner = api.WS(str(out)), api.POS(str(out)), api.NER(str(out))
    recommended, coerced = api.construct_dictionary(RECOMMENDED), api.construct_dictionary(COERCED)
    words = ws(SENTENCES)
    tags = pos(words)
    first = unicodedata.normalize("NFKD", SENTENCES[0])
    samples = (
        (ws.model, (first, ["B"] * len(first))),
        (pos.model, (words[0], ["D"] * len(words[0]))),
        (ner.model, (words[0], tags[0], ["O"] * len(SENTENCES[0]))),
    )
    return {
        "sentences": SENTENCES,
        "words": words,
        "words_segmented": ws(SENTENCES, sentence_segmentation=True),
        "recommended": RECOMMENDED,
        "coerced": COERCED,
        "words_recommended": ws(SENTENCES, recommend_dictionary=recommended),
        "words_coerced": ws(SENTENCES, coerce_dictionary=coerced),
        "words_both": ws(SENTENCES, recommend_dictionary=recommended, coerce_dictionary=coerced),
        "tags": tags,
        "tags_unsegmented": pos(words, sentence_segmentation=False),
        "entities": [sorted(found) for found in ner(words, tags)],
        "scores": {
            name: scores(model, sample) for name, (model, sample) in zip(("ws", "pos", "ner"), samples, strict=True)
        },
    }


def scores(model, sample) -> list:
    made = model.get_formatted_input([sample])
    if hasattr(model, "input_length"):
        feed = {model.input_length: made[0], model.w_k: made[1], model.w_v: made[2]}
    else:
        names = (model.s_l, model.c_k, model.c_v, model.w_k, model.w_v)
        feed = dict(zip(names, made, strict=False))
    return model.sess.run(model.logits, {**feed, model.bilstm.kr: 1.0})[0].tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
