"""Texts and words: spaCy, gensim, fastText."""

from ..case import case
from .scikit import reviews

GENSIM = "gensim numpy scipy"


@case("spacy", "11", "spaCy pipeline (text categories), `nlp.to_disk`", "text", "spacy")
def spacy(saved):
    import random

    import spacy
    from spacy.training import Example

    texts, labels, unseen = reviews()
    spacy.util.fix_random_seed(0)
    random.seed(0)
    nlp = spacy.blank("en")
    categories = nlp.add_pipe("textcat")
    for label in ("good", "bad"):
        categories.add_label(label)
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {name: float(name == label) for name in ("good", "bad")}})
        for text, label in zip(texts, labels)
    ]
    nlp.initialize(lambda: examples)
    for _ in range(4):
        nlp.update(examples)
    nlp.to_disk(saved.path("sentiment"))
    saved.ask(texts=unseen)
    found = [doc.cats for doc in nlp.pipe(unseen)]
    saved.answer("document cats", document=[{"cats": one} for one in found], cats=found)
    # spaCy's numbers are of 32 bits and become Python's.
    for answer in saved.answers.values():
        answer["precision"] = "float32"


@case("spacy-entities", "", "spaCy pipeline (entities by rules, sentences), `nlp.to_disk`", "text", "spacy")
def spacy_entities(saved):
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": "CITY", "pattern": "Berlin"}, {"label": "SUM", "pattern": [{"IS_DIGIT": True}, {"LOWER": "euro"}]}]
    )
    nlp.to_disk(saved.path("entities"))
    texts = ["It costs 30 euro. In Berlin, at least.", "Nothing here"]
    saved.ask(texts=texts)
    found = [[{"text": one.text, "label": one.label_, "start": one.start_char, "end": one.end_char} for one in doc.ents]
             for doc in nlp.pipe(texts)]
    saved.answer("document ents", document=[{"ents": one} for one in found], ents=found)


def sentences():
    return [text.split() for text in reviews()[0]]


@case("gensim-word2vec", "15", "gensim Word2Vec, `.save()`, small", "text", GENSIM)
def gensim_word2vec(saved):
    from gensim.models import Word2Vec

    model = Word2Vec(sentences(), vector_size=16, min_count=1, workers=1, seed=1)
    model.save(str(saved.path("word2vec.model")))
    words = ["lovely", "cold"]
    saved.ask(texts=words)
    saved.answer("vectors similar", vectors=[model.wv[word] for word in words],
                 similar=[model.wv.most_similar(word) for word in words])
    for answer in saved.answers.values():
        answer["precision"] = "float32"


@case("gensim-word2vec-large", "15c", "gensim Word2Vec, `.save()`, large: `.npy` files beside it", "text", GENSIM)
def gensim_word2vec_large(saved):
    from gensim.models import Word2Vec

    model = Word2Vec(sentences(), vector_size=16, min_count=1, workers=1, seed=1)
    # Arrays of more than 10 MiB are written to files of their own; here smaller ones are, so that the model is small.
    model.save(str(saved.path("word2vec.model")), sep_limit=64)
    words = ["lovely", "cold"]
    saved.ask(texts=words)
    saved.answer("vectors similar", vectors=[model.wv[word] for word in words],
                 similar=[model.wv.most_similar(word) for word in words])
    for answer in saved.answers.values():
        answer["precision"] = "float32"


@case("gensim-keyedvectors", "", "gensim KeyedVectors, `.save()`", "text", GENSIM)
def gensim_keyedvectors(saved):
    from gensim.models import Word2Vec

    model = Word2Vec(sentences(), vector_size=16, min_count=1, workers=1, seed=1)
    model.wv.save(str(saved.path("vectors.kv")))
    words = ["lovely", "cold"]
    saved.ask(texts=words)
    saved.answer("vectors similar", vectors=[model.wv[word] for word in words],
                 similar=[model.wv.most_similar(word) for word in words])
    for answer in saved.answers.values():
        answer["precision"] = "float32"


@case("gensim-word2vec-format", "", "word2vec's binary format, `save_word2vec_format(binary=True)`", "text", GENSIM)
def gensim_word2vec_format(saved):
    from gensim.models import Word2Vec

    model = Word2Vec(sentences(), vector_size=16, min_count=1, workers=1, seed=1)
    model.wv.save_word2vec_format(str(saved.path("vectors.bin")), binary=True)
    words = ["lovely", "cold"]
    saved.ask(texts=words)
    saved.answer("vectors similar", vectors=[model.wv[word] for word in words],
                 similar=[model.wv.most_similar(word) for word in words])
    for answer in saved.answers.values():
        answer["precision"] = "float32"


@case("gensim-lda", "", "gensim LdaModel, `.save()`: it writes four files", "text", GENSIM)
def gensim_lda(saved):
    from gensim.corpora import Dictionary
    from gensim.models import LdaModel

    words = Dictionary(sentences())
    model = LdaModel([words.doc2bow(one) for one in sentences()], num_topics=2, id2word=words, random_state=0)
    model.save(str(saved.path("topics.lda")))
    unseen = [one.split() for one in reviews()[2]]
    saved.ask(texts=reviews()[2], value=[words.doc2bow(one) for one in unseen])
    saved.answer("topics", topics=[model.get_document_topics(words.doc2bow(one), minimum_probability=0.0) for one in unseen])
    saved.answers["topics"]["precision"] = "float32"
    saved.note = "the model infers from a random state that moves with each call: the first answers differ from later ones"


@case("fasttext", "", "fastText, `save_model(\"m.bin\")`, supervised", "text", "fasttext-community numpy")
def fasttext(saved):
    import pathlib

    import fasttext

    texts, labels, unseen = reviews()
    pathlib.Path("train.txt").write_text("".join(f"__label__{label} {text}\n" for text, label in zip(texts, labels)))
    model = fasttext.train_supervised("train.txt", dim=8, lr=1.0, epoch=50, minn=2, maxn=3, bucket=2000,
                                      thread=1, verbose=0)
    model.save_model(str(saved.path("m.bin")))
    saved.ask(texts=unseen)
    labels, chances = model.predict(unseen)
    saved.answer("predict labels pairs", predict=[labels, chances], labels=labels,
                 pairs=[[names, numbers] for names, numbers in zip(labels, chances)])
    for answer in saved.answers.values():
        answer["precision"] = "float32"
