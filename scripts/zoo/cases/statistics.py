"""Statistics and series: statsmodels, lifelines, prophet, pmdarima, sktime."""

from ..case import case

STATSMODELS = "statsmodels numpy pandas scipy"


def houses():
    import numpy
    import pandas

    random = numpy.random.default_rng(11)
    table = pandas.DataFrame(
        {
            "area": random.normal(90, 25, 120).round(1),
            "rooms": random.integers(1, 7, 120),
            "district": random.choice(["north", "south", "west"], 120),
        }
    )
    table["price"] = (
        1500 * table.area + 8000 * table.rooms + 20000 * (table.district == "west") + random.normal(0, 9000, 120)
    )
    return table[:115], table[115:].drop(columns="price").reset_index(drop=True)


@case("statsmodels-formula", "7", "statsmodels OLS by a formula, `results.save`", "light", STATSMODELS, light=True)
def statsmodels_formula(saved):
    import statsmodels.formula.api as smf

    table, unseen = houses()
    results = smf.ols("price ~ area + rooms + C(district)", data=table).fit()
    results.save(str(saved.path("price.pickle")))
    saved.ask(records=unseen)
    saved.answer("predict", predict=results.predict(unseen))


@case(
    "statsmodels-logit-formula",
    "",
    "statsmodels logit by a formula with a transformation, `results.save`",
    "light",
    STATSMODELS,
)
def statsmodels_logit_formula(saved):
    import numpy as np
    import statsmodels.formula.api as smf

    table, unseen = houses()
    table = table.assign(
        dear=(table.price > table.price.median() + np.random.default_rng(5).normal(0, 60000, 115)).astype(int)
    )
    results = smf.logit("dear ~ np.log(area) + rooms", data=table).fit(disp=0)
    results.save(str(saved.path("dear.pickle")))
    saved.ask(records=unseen[["area", "rooms"]])
    saved.answer("predict", predict=results.predict(unseen))


@case("statsmodels-arrays", "7b", "statsmodels OLS on arrays, `results.save`", "light", STATSMODELS, light=True)
def statsmodels_arrays(saved):
    import statsmodels.api as sm

    table, unseen = houses()
    results = sm.OLS(table.price.to_numpy(), sm.add_constant(table[["area", "rooms"]].to_numpy())).fit()
    results.save(str(saved.path("ols.pickle")))
    asked = sm.add_constant(unseen[["area", "rooms"]].to_numpy(), has_constant="add")
    saved.ask(rows=asked)
    saved.answer("predict", predict=results.predict(asked))


@case("lifelines-pickle", "14", "lifelines CoxPHFitter, pickle", "light", "lifelines numpy pandas scipy", light=True)
def lifelines_pickle(saved):
    import pickle

    from lifelines import CoxPHFitter
    from lifelines.datasets import load_rossi

    rossi = load_rossi()
    fitter = CoxPHFitter().fit(rossi[:-5], duration_col="week", event_col="arrest")
    with open(saved.path("cox.pkl"), "wb") as file:
        pickle.dump(fitter, file)
    unseen = rossi[-5:].drop(columns=["week", "arrest"]).reset_index(drop=True)
    saved.ask(records=unseen)
    saved.answer(
        "predict_partial_hazard predict_expectation",
        predict_partial_hazard=fitter.predict_partial_hazard(unseen),
        predict_expectation=fitter.predict_expectation(unseen),
    )


def months():
    import numpy
    import pandas

    time = numpy.arange(60)
    values = 100 + time + 10 * numpy.sin(time / 12 * 2 * numpy.pi) + numpy.random.default_rng(2).normal(0, 1, 60)
    return pandas.Series(values, index=pandas.date_range("2020-01-01", periods=60, freq="MS"), name="sales")


@case("prophet-json", "", "prophet, `model_to_json`", "series", "prophet numpy pandas")
def prophet_json(saved):
    import pandas
    from prophet import Prophet
    from prophet.serialize import model_to_json

    series = months()
    model = Prophet().fit(pandas.DataFrame({"ds": series.index, "y": series.to_numpy()}))
    saved.path("sales.json").write_text(model_to_json(model))
    days = ["2025-01-01", "2025-02-01", "2025-03-01"]
    forecast = model.predict(pandas.DataFrame({"ds": pandas.to_datetime(days)}))
    saved.ask(records=[{"ds": day} for day in days])
    saved.answer(
        "predict predict_yhat", predict=[{"yhat": value} for value in forecast.yhat], predict_yhat=forecast.yhat
    )
    saved.note = "yhat_lower and yhat_upper are drawn by chance at each call"


@case("pmdarima-pickle", "", "pmdarima AutoARIMA, joblib", "series", "pmdarima numpy joblib")
def pmdarima_pickle(saved):
    import joblib
    import pmdarima

    model = pmdarima.ARIMA(order=(1, 1, 1), suppress_warnings=True).fit(months().to_numpy())
    joblib.dump(model, saved.path("arima.pkl"))
    saved.ask(value=4)
    saved.answer("predict", predict=model.predict(n_periods=4))


@case("sktime-pickle", "", "sktime forecaster, pickle", "series", "sktime numpy pandas")
def sktime_pickle(saved):
    import pickle

    from sktime.forecasting.trend import TrendForecaster

    model = TrendForecaster().fit(months(), fh=[1, 2, 3])
    with open(saved.path("trend.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(value=[1, 2, 3])
    saved.answer("predict", predict=model.predict([1, 2, 3]))


@case("sktime-zip", "", "sktime forecaster, its own `save` (a zip)", "series", "sktime numpy pandas")
def sktime_zip(saved):
    from sktime.forecasting.trend import PolynomialTrendForecaster

    model = PolynomialTrendForecaster(degree=2).fit(months(), fh=[1, 2, 3])
    saved.path("quadratic.zip")
    model.save(saved.folder / "quadratic")
    saved.ask(value=[1, 2, 3])
    saved.answer("predict", predict=model.predict([1, 2, 3]))
