#!/usr/bin/env python3
"""Trains an extraction AI with konfuzio-sdk, without its server, and lets it write the bento: python konfuzio.py FOLDER.

Beside FOLDER/konfuzio.bento there is a request for it, FOLDER/konfuzio.json.
"""

import json
import logging
import os
import pathlib
import sys

# Nobody is asked; without them the package looks for a file that says whom to ask.
os.environ.update(KONFUZIO_HOST="http://127.0.0.1:9", KONFUZIO_TOKEN="none", BENTOML_DO_NOT_TRACK="True")

from konfuzio_sdk.data import Annotation, AnnotationSet, Category, Document, Label, LabelSet, Page, Project, Span  # noqa: E402
from konfuzio_sdk.tokenizer.regex import WhitespaceTokenizer  # noqa: E402
from konfuzio_sdk.trainer.information_extraction import RFExtractionAI  # noqa: E402

PAGE = (595.0, 842.0)


def invoice(number):
    """A text, and what is to be found in it."""
    found = {"Number": f"A{100 + number}", "Total": f"{number * 7 + 3}.50"}
    return f"Invoice {found['Number']}\nFrom somebody\nTotal {found['Total']} EUR", found


def boxes(text):
    """Where each character stands on the page."""
    places = {}
    for row, line in enumerate(text.split("\n")):
        start = len("\n".join(text.split("\n")[:row])) + bool(row)
        for column, character in enumerate(line):
            left, bottom = 10 + 6 * column, 780 - 20 * row
            places[str(start + column)] = {
                "x0": left, "x1": left + 5, "y0": bottom, "y1": bottom + 10,
                "page_number": 1, "text": character, "line_index": row,
            }  # fmt: skip
    return places


def train():
    project = Project(id_=None, strict_data_validation=False)
    project.set_offline()
    category = Category(project=project, id_=63, name="Invoice", name_clean="Invoice")
    label_set = LabelSet(project=project, id_=63, name="Invoice", categories=[category])
    number = Label(project=project, id_=858, text="Number", label_sets=[label_set])
    total = Label(project=project, id_=860, text="Total", label_sets=[label_set], data_type="Number")
    for count in range(6):
        text, found = invoice(count)
        more = {"project": project, "category": category, "text": text, "bbox": boxes(text), "dataset_status": 2}
        document = Document(id_=count + 1, **more)
        Page(id_=count + 1, document=document, number=1, original_size=PAGE)
        annotations = AnnotationSet(id_=count + 1, document=document, label_set=label_set)
        for label in (number, total):
            start = text.index(found[label.name])
            span = Span(document=document, start_offset=start, end_offset=start + len(found[label.name]))
            what = {"label": label, "label_set": label_set, "annotation_set": annotations, "spans": [span]}
            Annotation(document=document, is_correct=True, confidence=1.0, **what)
    ai = RFExtractionAI(category=category)
    ai.tokenizer = WhitespaceTokenizer()
    ai.documents, ai.test_documents = category.documents(), []
    ai.df_train, ai.label_feature_list = ai.feature_function(documents=ai.documents, require_revised_annotations=False)
    ai.fit()
    ai.reduce_model_weight()
    ai.documents, project._documents = [], []
    return ai


def main(folder):
    logging.disable(logging.ERROR)
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _, archive = train().save_bento(output_dir=str(folder))
    os.replace(archive, folder / "konfuzio.bento")
    text, _ = invoice(9)
    page = {"number": 1, "image": None, "original_size": PAGE, "segmentation": None}
    request = {"text": text, "bboxes": boxes(text), "pages": [page], "raw_ocr_response": None}
    (folder / "konfuzio.json").write_text(json.dumps(request))


if __name__ == "__main__":
    main(sys.argv[1])
