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
    saved.answer("document cats", near="float32", document=[{"cats": one} for one in found], cats=found)


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
    found = [
        [{"text": one.text, "label": one.label_, "start": one.start_char, "end": one.end_char} for one in doc.ents]
        for doc in nlp.pipe(texts)
    ]
    saved.answer("document ents", document=[{"ents": one} for one in found], ents=found)


def word2vec():
    from gensim.models import Word2Vec

    return Word2Vec([text.split() for text in reviews()[0]], vector_size=16, min_count=1, workers=1, seed=1)


def about_words(saved, vectors):
    words = ["lovely", "cold"]
    saved.ask(texts=words)
    saved.answer(
        "vectors similar",
        near="float32",
        vectors=[vectors[word] for word in words],
        similar=[vectors.most_similar(word) for word in words],
    )


@case("gensim-word2vec", "15", "gensim Word2Vec, `.save()`, small", "text", GENSIM)
def gensim_word2vec(saved):
    model = word2vec()
    model.save(str(saved.path("word2vec.model")))
    about_words(saved, model.wv)


@case("gensim-word2vec-large", "15c", "gensim Word2Vec, `.save()`, large: `.npy` files beside it", "text", GENSIM)
def gensim_word2vec_large(saved):
    model = word2vec()
    # Arrays of more than 10 MiB are written to files of their own; here smaller ones are, so that the model is small.
    model.save(str(saved.path("word2vec.model")), sep_limit=64)
    about_words(saved, model.wv)


@case("gensim-keyedvectors", "", "gensim KeyedVectors, `.save()`", "text", GENSIM)
def gensim_keyedvectors(saved):
    model = word2vec()
    model.wv.save(str(saved.path("vectors.kv")))
    about_words(saved, model.wv)


@case("gensim-word2vec-format", "", "word2vec's binary format, `save_word2vec_format(binary=True)`", "text", GENSIM)
def gensim_word2vec_format(saved):
    model = word2vec()
    model.wv.save_word2vec_format(str(saved.path("vectors.bin")), binary=True)
    about_words(saved, model.wv)


@case("gensim-lda", "", "gensim LdaModel, `.save()`: it writes four files", "text", GENSIM)
def gensim_lda(saved):
    from gensim.corpora import Dictionary
    from gensim.models import LdaModel

    sentences = [text.split() for text in reviews()[0]]
    words = Dictionary(sentences)
    model = LdaModel([words.doc2bow(one) for one in sentences], num_topics=2, id2word=words, random_state=0)
    model.save(str(saved.path("topics.lda")))
    unseen = [one.split() for one in reviews()[2]]
    saved.ask(texts=reviews()[2], value=[words.doc2bow(one) for one in unseen])
    saved.answer(
        "topics",
        near="float32",
        topics=[model.get_document_topics(words.doc2bow(one), minimum_probability=0.0) for one in unseen],
    )
    saved.note = (
        "the model infers from a random state that moves with each call: the first answers differ from later ones"
    )


@case("fasttext", "", 'fastText, `save_model("m.bin")`, supervised', "text", "fasttext-community numpy")
def fasttext(saved):
    import pathlib

    import fasttext

    texts, labels, unseen = reviews()
    pathlib.Path("train.txt").write_text("".join(f"__label__{label} {text}\n" for text, label in zip(texts, labels)))
    model = fasttext.train_supervised(
        "train.txt", dim=8, lr=1.0, epoch=50, minn=2, maxn=3, bucket=2000, thread=1, verbose=0
    )
    model.save_model(str(saved.path("m.bin")))
    saved.ask(texts=unseen)
    labels, chances = model.predict(unseen)
    saved.answer(
        "predict labels pairs",
        near="float32",
        predict=[labels, chances],
        labels=labels,
        pairs=[[names, numbers] for names, numbers in zip(labels, chances)],
    )
