"""Requests to `/invocations`, good and bad: bodies, with a kind where they are no JSON."""

import json

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
IRISES = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]
# Columns of the models of `models.py`, with two rows that they take.
TABLES = {
    "sklearn": (IRIS, IRISES),
    "xgboost": (IRIS, IRISES),
    "booster": (IRIS, IRISES),
    "pyfunc": (IRIS, IRISES),
    "onnx": (IRIS, IRISES),
    "lightgbm": (["a", "b", "c", "d"], IRISES),
    "doubles": (["a", "b", "c"], [[1.5, 2, 3], [3, 4.25, -1]]),
    "longs": (["a", "b"], [[1, 2], [3, 4]]),
    "floats": (["a", "b"], [[1, 2.1], [3, 4]]),
    "integer": (["a"], [[1], [3]]),
    "unnamed": (["a", "b"], [[1.5, 2], [3, 4]]),
    "text": (["text"], [["a"], ["b"]]),
    "tensor": (["a", "b", "c"], [[1.5, 2, 3], [3, 4.25, -1]]),
    "arrays": (["p", "q", "r"], [[[1.5, 2], 3, "a"], [[3, 4], -1, "b"]]),
    "image": (["a"], [[1], [3]]),
    "anything": (["a", "b"], [[1.5, "x"], [3, None]]),
}


def request(body, kind="application/json"):
    return (body if isinstance(body, str) else json.dumps(body)).encode(), kind


def csv(names, rows):
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    return request("\n".join(lines) + "\n", "text/csv")


def split(names, rows, **more):
    return request({"dataframe_split": {"columns": names, "data": rows}, **more})


def records(*rows, **more):
    return request({"dataframe_records": list(rows), **more})


def twenty(names, rows):
    """Ten that most models take, and ten that none does."""
    named = [dict(zip(names, row)) for row in rows]
    columns = dict(zip(names, map(list, zip(*rows))))
    return [
        split(names, rows),
        split(names[::-1], [row[::-1] for row in rows]),
        split([*names, "more"], [[*row, 1] for row in rows]),
        records(*named),
        split(names, [[round(one) if isinstance(one, float) else one for one in row] for row in rows]),
        request({"instances": named}),
        request({"inputs": columns}),
        request({"inputs": rows}),
        split(names, rows, params={"factor": 3, "other": 1}),
        csv(names, rows),
        split(names[1:], [row[1:] for row in rows]),
        split(names, [["a word"] * len(names)]),
        split(names, rows, params={"factor": "large"}),
        records(named[0], {}),
        request({"inputs": dict(zip(names, [[1], [2, 3]] * len(names)))}),
        request("no JSON"),
        request([1, 2]),
        request({"dataframe_split": {"columns": names, "data": rows}, "inputs": rows}),
        request("a,b\n1\n1,2,3,4\n", "text/csv"),
        request("x", "text/plain"),
    ]


def many(names, rows):
    """All that a table's request may be made of, whatever its model takes."""
    named = [dict(zip(names, row)) for row in rows]
    columns = dict(zip(names, map(list, zip(*rows))))
    width = len(names)
    odd = [None, 1, "x", "1.5", True, 2**60, 2**70, [1.0], {"a": 1}]
    forms = [{}, {"params": {}}, {"columns": names, "data": rows}, {"messages": [{"role": "user"}]}, {"prompt": "x"}]
    values = [5, "text", [], None, {}, ["a", "b"], [True], [1, 2], [[1, 2], [3]], [{"a": 1}, 3]]
    return [
        *twenty(names, rows),
        *(split(names, [[one] * width]) for one in odd),
        *(request({form: value}) for form in ("inputs", "instances") for value in values),
        *(request(form) for form in forms),
        request({"instances": columns}),
        request({"inputs": named}),
        request({"instances": rows}),
        request({"inputs": dict(zip(names, [1] * width))}),
        request({"inputs": dict(zip(names, [[[1.0]]] * width))}),
        request({"instances": dict(zip(names, [[1], [2, 3]] * width))}),
        request({"input": "x", **named[0]}),
        request({"dataframe_split": {"columns": names, "data": rows, "index": [7, 9]}}),
        request({"dataframe_split": {"columns": names, "data": rows, "index": [1, 2, 3]}}),
        request({"dataframe_split": {"columns": names, "data": rows, "more": 1}}),
        request({"dataframe_split": {"data": rows}}),
        request({"dataframe_split": {"columns": names}}),
        request({"dataframe_split": rows}),
        split(names, []),
        split(names, 3),
        split(names, [row[:-1] for row in rows]),
        split([1] * width, rows),
        split([names[0]] * width, rows),
        split(names, rows, params=[1]),
        split(names, rows, more=1),
        records({**named[0], "more": 1}),
        records(),
        request({"dataframe_records": {"a": 1}}),
        request({"dataframe_records": "x"}),
        request(f'{{"dataframe_records": [{{{json.dumps(names[0])}: NaN}}]}}'),
        request('{"inputs": [[NaN, 1.0]]}'),
        request("3"),
        request(""),
        request("", "text/csv"),
        request("{}", "application/json; charset=latin-1"),
        request("{}", "application/json; x=1"),
        (csv(names, rows)[0], "text/csv; charset=utf-8"),
    ]


MIXED = ["d", "f", "l", "i", "s", "b", "t", "x", "o"]
ROW = [1.5, 2.5, 3, 4, "five", True, "2024-05-06T07:08:09", "aGVsbG8=", 9.5]
OTHER = [-1, 2, 2**40, -4, "", False, "2024-05-06 07:08:09.123456", "", None]


def mixed():
    def with_params(params):
        return split(MIXED, [ROW], params=params)

    odd = [None, "x", 1, 1.0, 1.5, True, [1], {"a": 1}, 2**40, 2**70, "2024-01-01", "2024-01-01T00:00:00Z"]
    yield from many(MIXED, [ROW, OTHER])
    yield from many(MIXED[:7], [ROW[:7], OTHER[:7]])
    for place, name in enumerate(MIXED):
        for value in odd:
            yield split(MIXED, [[*ROW[:place], value, *ROW[place + 1 :]]])
            yield request({"inputs": {**{key: [one] for key, one in zip(MIXED, ROW)}, name: [value]}})
            yield request({"instances": [{**dict(zip(MIXED, ROW)), name: value}]})
    whole = [{}, None, [], "x", {"other": 1}]
    scalars = [1, 2.5, "hot", True, None, [1], 2**40, 2**70]
    yield from map(with_params, whole)
    yield from (with_params({name: value}) for name in ("temperature", "k", "name") for value in scalars)
    yield from (with_params({"words": value}) for value in (["x", "y"], "x", [1], [], [["x"]]))
    yield from (with_params({"when": value}) for value in ("2025-01-01", "2025-01-01T10:00:00", 5, "soon"))


def nested():
    whole = {"v": [1, 2.5], "o": {"n": "a", "q": 3}, "m": {"k": 1.5}, "w": [["a"], ["b", "c"]], "z": {"any": [1]}}
    odd = {
        "v": [[], 3, ["x"], [1], [True], None],
        "o": [{"n": "a"}, {"q": 1}, {"n": 1}, {"n": "a", "r": 1}, {"n": "a", "q": 1.5}, [1], None],
        "m": [{}, {"a": "x"}, [1], {"a": 1}],
        "w": [None, [], [[]], ["a"], [[1]]],
        "z": [None, [1, "a"]],
    }
    for form in ("dataframe_records", "instances", "inputs"):
        yield request({form: [whole]})
        yield request({form: [whole, whole]})
        yield request({form: whole})
        yield request({form: {name: [value] for name, value in whole.items()}})
    for name, values in odd.items():
        yield from (records({**whole, name: value}) for value in values)
        yield records({key: value for key, value in whole.items() if key != name})
    yield split(list(whole), [list(whole.values())])
    yield csv(["v"], [[1]])


def hints():
    values = [["Ada"], [], "Ada", [1], None]
    return [*(request({"inputs": value}) for value in values), request({}), records({"a": 1}), csv(["a"], [["x"]])]


MORE = {
    "onnx": [request({"inputs": {"features": [IRISES[0]]}}), split(["features"], [[IRISES[0]]])],
    "integer": [records({"a": 2**31}), records({"a": -(2**31)})],
    "text": [request({"inputs": {"text": "a"}}), request({"inputs": {"text": ["a", "b"]}})],
    "tensor": [request({"inputs": value}) for value in ([[1, 2, 3]], [[1, 2]], [["x", "y", "z"]], [[None, 1, 2]])],
    "arrays": [
        request({"inputs": {"p": [[1, 2]], "q": [1], "r": ["x"], **more}})
        for more in ({}, {"q": [1.5]}, {"p": [[1]]}, {"s": [1]}, {"r": [1]})
    ],
    "image": [
        request({form: [[[[value], [2]], [[3], [4]]]]}) for form in ("inputs", "instances") for value in (1, 300, 1.5)
    ],
}


def of(name):
    """All requests for a model."""
    special = {"mixed": mixed, "nested": nested, "hints": hints}
    if name in special:
        return list(special[name]())
    return [*many(*TABLES[name]), *MORE.get(name, [])]
