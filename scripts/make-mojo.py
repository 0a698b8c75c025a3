#!/usr/bin/env python3
"""Trains the models of h2o that the tests ask, and writes them into fixtures/mojo: `make-mojo.py [FOLDER]`.

Needs h2o 3.46.0.7 (later releases export no MOJO) and a Java. The data is made here, so nobody's terms apply to the models.
`answers.json` has what h2o itself answers to some rows, which the tests hold Ekiben's answers against.
"""

import json
import random
import sys
from pathlib import Path

import h2o
from h2o.estimators import H2OGradientBoostingEstimator as Boosting
from h2o.estimators import H2OKMeansEstimator as Means

ROWS = 600


def made():
    """Parts of a machine: how warm they are, how they shake, of which make, and what became of them."""
    draw = random.Random(7)
    rows = []
    for _ in range(ROWS):
        warmth, shaking = draw.gauss(60, 15), draw.expovariate(1 / 2.0)
        make = draw.choice(["north", "south", "öst"])
        worn = 0.04 * warmth + 0.9 * shaking + (1.5 if make == "south" else 0) + draw.gauss(0, 0.3)
        state = "good" if worn < 4 else "worn" if worn < 6 else "broken"
        rows.append({"warmth": warmth, "shaking.rate": shaking, "make": make, "state": state, "worn": worn})
    return rows


def trained(estimator, frame, x, y=None, **options):
    model = estimator(seed=1, **options)
    model.train(x=x, y=y, training_frame=frame)
    return model


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "fixtures/mojo")
    folder.mkdir(parents=True, exist_ok=True)
    h2o.init(nthreads=1, max_mem_size="1g", bind_to_localhost=True)
    rows = made()
    frame = h2o.H2OFrame({name: [row[name] for row in rows] for name in rows[0]})
    frame["make"], frame["state"] = frame["make"].asfactor(), frame["state"].asfactor()
    x = ["warmth", "shaking.rate", "make"]
    models = {
        "classes": trained(Boosting, frame, x, "state", model_id="Classes", ntrees=3, max_depth=3),
        "number": trained(Boosting, frame, x, "worn", model_id="Number", ntrees=3, max_depth=3),
        "clusters": trained(Means, frame, ["warmth", "shaking.rate"], model_id="Clusters", k=3),
    }
    asked = [{name: row[name] for name in x} for row in rows[:12]]
    asked.append({"warmth": 71.5, "shaking.rate": None, "make": None})
    question = h2o.H2OFrame([[row[name] for name in x] for row in asked], column_names=x)
    question["make"] = question["make"].asfactor()
    answers = {"asked": asked}
    for name, model in models.items():
        model.download_mojo(str(folder / f"{name}.zip"))
        predicted = model.predict(question)
        rows = predicted.as_data_frame(use_pandas=False, header=False)
        answers[name] = [dict(zip(predicted.columns, row)) for row in rows]
    models["classes"].download_pojo(str(folder), get_genmodel_jar=False)
    (folder / "answers.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", "utf-8")
    h2o.cluster().shutdown()


if __name__ == "__main__":
    main()
