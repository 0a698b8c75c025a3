//! What functions take and give beyond plain JSON: files, arrays, tables, classes; asked of the real service, and compared
//! with what its description says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::service::{Answer, Service, tiny};

/// A picture of one red point.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

fn png() -> Vec<u8> {
    STANDARD.decode(PNG).unwrap()
}

fn served(source: &str, functions: &[&str]) -> Service {
    let functions = functions.iter().map(|name| ((*name).to_owned(), json!(format!("src/predict.py:{name}"))));
    let functions = Value::Object(functions.collect());
    Service::start(&tiny(&json!({ "functions": functions })), source).ready()
}

const FILES: &str = r#"
import io
from pathlib import Path
from typing import BinaryIO, List, Optional

from PIL import Image


def size(image: bytes, times: int = 1, note: str = "") -> dict:
    return {"size": len(image) * times, "note": note, "kind": type(image).__name__}


def path(image: Path) -> dict:
    return {"size": image.stat().st_size, "suffix": image.suffix, "path": str(image)}


def reader(image: BinaryIO) -> dict:
    return {"size": len(image.read())}


def memory(image: io.BytesIO) -> dict:
    return {"size": len(image.getvalue())}


def picture(image: Image.Image) -> dict:
    return {"size": list(image.size), "point": list(image.getpixel((0, 0)))}


def several(images: List[bytes], more: Optional[bytes] = None) -> list:
    return [len(image) for image in images] + [more]
"#;

#[test]
fn a_file_comes_in_a_form_in_json_or_alone() {
    let service = served(FILES, &["memory", "path", "picture", "reader", "several", "size"]);
    let (png, url) = (png(), format!("data:image/png;base64,{PNG}"));
    let length = png.len();
    for name in ["size", "path", "reader", "memory", "picture"] {
        let path = format!("/{name}");
        let size = if name == "picture" { json!([1, 1]) } else { json!(length) };
        for answer in [
            service.send(&path, "", &[("name=\"image\"; filename=\"a b.png\"\r\ncontent-type: image/png", &png)]),
            service.ask("POST", &path, "content-type: image/png\r\n", &png),
            service.post(&path, &json!({ "image": PNG })),
            service.post(&path, &json!({ "image": url })),
        ] {
            assert_eq!(
                (answer.status, &answer.json()["size"]),
                (200, &size),
                "{name}: {} {}",
                answer.body,
                service.log()
            );
        }
    }
    let answer = service.send("/path", "", &[("name=image; filename=../../etc/x.tar.gz", b"x")]).json();
    assert_eq!(answer["suffix"], ".gz");
    let place = std::path::PathBuf::from(answer["path"].as_str().unwrap());
    assert!(place.parent().unwrap().parent() == Some(&std::env::temp_dir()) && !place.parent().unwrap().exists());

    // Values stand beside files: as a text where one is asked for, else as JSON.
    let image = ("name=image; filename=x", b"abc".as_slice());
    let answer = service.send("/size", "", &[image, ("name=times", b"2"), ("name=note", b"5")]);
    assert_eq!(answer.json(), json!({ "size": 6, "note": "5", "kind": "bytes" }));
    let answer = service.send("/several", "", &[("name=images; filename=x", b"a"), ("name=images; filename=y", b"bc")]);
    assert_eq!(answer.json(), json!([1, 2, null]));
    // What Swagger UI sends of what was left out: no file, and no number; but a text that is empty is one.
    let blank = [("name=images; filename=x", b"a".as_slice()), ("name=more", b"")];
    assert_eq!(service.send("/several", "", &blank).json(), json!([1, null]));
    let blank = [image, ("name=times", b""), ("name=note", b"")];
    assert_eq!(service.send("/size", "", &blank).json(), json!({ "size": 3, "note": "", "kind": "bytes" }));
    assert_eq!(service.send("/size", "", &[("name=image", b"")]).status, 422);
    let empty = service.send("/size", "", &[("name=image; filename=x", b"")]);
    assert_eq!(empty.json()["size"], json!(0), "a file may be empty");
    // A browser's way to send no file.
    let answer = service.send("/several", "", &[("name=images; filename=x", b"a"), ("name=more; filename=\"\"", b"")]);
    assert_eq!(answer.json(), json!([1, null]));
}

const ANSWERS: &str = r#"
import io
from pathlib import Path
from typing import Annotated, Any

from PIL import Image

PNG = Path(__file__).with_name("a \"b\" ä.png")
Image.new("RGB", (1, 1), "red").save(PNG)


def content(n: int) -> bytes:
    return PNG.read_bytes()


def declared(n: int) -> Annotated[bytes, "application/x-mine"]:
    return b"mine"


def path(n: int) -> Path:
    return PNG


def memory(n: int) -> io.BytesIO:
    return io.BytesIO(PNG.read_bytes())


def picture(n: int) -> Image.Image:
    return Image.new("RGBA", (n, n))


def jpeg(n: int) -> Annotated[Image.Image, "image/jpeg"]:
    return Image.new("RGBA", (n, n))


def own(image: Path) -> Path:
    return image


def within(n: int) -> Any:
    return {"files": [b"abc", PNG, Image.new("RGB", (n, n))], "n": n}


def folder(n: int) -> Path:
    return PNG.parent
"#;

#[test]
fn a_file_is_answered_as_the_caller_accepts_it() {
    let names = ["content", "declared", "folder", "jpeg", "memory", "own", "path", "picture", "within"];
    let service = served(ANSWERS, &names);
    let asked = |path: &str, accept: &str| {
        let accept = if accept.is_empty() { String::new() } else { format!("accept: {accept}\r\n") };
        service.ask("POST", path, &accept, r#"{"n": 1}"#)
    };
    let kind = |answer: &Answer| {
        let line = answer.head.lines().find_map(|line| line.strip_prefix("content-type: "));
        line.unwrap_or_default().to_owned()
    };
    for (path, accept, wanted, name) in [
        ("/content", "", "image/png", "filename=\"content.png\""),
        ("/content", "image/*", "image/png", ""),
        ("/declared", "*/*", "application/x-mine", ""),
        ("/path", "", "image/png", "filename=\"a _b_ _.png\"; filename*=UTF-8''a%20%22b%22%20%C3%A4.png"),
        ("/memory", "image/png;q=0.5, text/html", "image/png", "filename=\"memory.png\""),
        ("/picture", "", "image/png", "filename=\"picture.png\""),
        ("/picture", "image/jpeg, image/png;q=0.5", "image/jpeg", "filename=\"picture.jpg\""),
        ("/picture", "image/png;q=0, image/*", "image/jpeg", ""),
        ("/jpeg", "image/*", "image/jpeg", ""),
    ] {
        let answer = asked(path, accept);
        assert_eq!((answer.status, kind(&answer).as_str()), (200, wanted), "{path} {accept} {}", service.log());
        assert!(answer.head.contains(name), "{}", answer.head);
        // A browser shows a picture, and asks what to do with all else.
        let way = if wanted.starts_with("image/") { "inline" } else { "attachment" };
        assert!(answer.head.contains(&format!("content-disposition: {way}; ")), "{}", answer.head);
        let sign: &[u8] = match wanted {
            "image/png" => b"\x89PNG",
            "image/jpeg" => b"\xff\xd8",
            _ => b"mine",
        };
        assert!(answer.bytes.starts_with(sign), "{:?}", answer.body);
    }
    let json = asked("/content", "application/json");
    assert!(json.json().as_str().unwrap().starts_with("data:image/png;base64,iVBOR"), "{}", json.body);
    for (path, accept) in
        [("/content", "image/jpeg"), ("/jpeg", "image/png"), ("/picture", "text/html"), ("/path", "*/*;q=0")]
    {
        let answer = asked(path, accept);
        assert_eq!(
            (answer.status, &answer.json()["detail"][0]["type"]),
            (406, &json!("not_acceptable")),
            "{path} {accept}"
        );
    }
    // A file that goes with the request is sent all the same.
    let sent = service.send("/own", "", &[("name=image; filename=x.bin", b"abc")]);
    assert_eq!((sent.status, sent.body.as_str()), (200, "abc"));
    let within = asked("/within", "").json();
    assert_eq!((&within["files"][0], &within["n"]), (&json!("data:application/octet-stream;base64,YWJj"), &json!(1)));
    assert!(within["files"][1].as_str().unwrap().starts_with("data:image/png;base64,"));
    assert!(within["files"][2].as_str().unwrap().starts_with("data:image/png;base64,"));
    let folder = asked("/folder", "");
    assert!(folder.status == 500 && service.log().contains("Is a directory"), "{}", folder.body);
}

#[test]
fn what_is_too_large_or_of_another_kind_is_refused() {
    let source = "from typing import Annotated, List\nfrom PIL import Image\n\ndef predict(image: bytes, name: str = ''):\n    \
                  return len(image)\n\ndef kinds(image: Annotated[bytes, 'image/*']):\n    return len(image)\n\n\
                  def picture(image: Image.Image):\n    return image.size\n\ndef several(images: List[bytes]):\n    \
                  return len(images)\n";
    let functions = json!({ "kinds": "src/predict.py:kinds", "picture": "src/predict.py:picture",
        "several": "src/predict.py:several" });
    let service = json!({ "predict": "src/predict.py:predict", "functions": functions,
        "limits": { "file": "1k", "request": "4k" },
        "inputs": [{ "name": "image", "accept": ["image/png", "application/x-mine"] }] });
    let service = Service::start(&tiny(&service), source).ready();
    let refused = |answer: Answer, status: u16, kind: &str| {
        assert_eq!((answer.status, &answer.json()["detail"][0]["type"]), (status, &json!(kind)), "{}", answer.body);
    };
    let (just, over) = (vec![b'x'; 1000], vec![b'x'; 1001]);
    let mine = "name=image; filename=a\r\ncontent-type: application/x-mine";
    assert_eq!(service.send("/predict", "", &[(mine, &just)]).json(), json!(1000));
    refused(service.send("/predict", "", &[(mine, &over)]), 413, "too_large");
    refused(service.post("/predict", &json!({ "image": STANDARD.encode(&over) })), 413, "too_large");
    refused(service.ask("POST", "/predict", "content-type: application/x-mine\r\n", &over), 413, "too_large");
    let part = ("name=images; filename=a", just.as_slice());
    refused(service.send("/several", "", &[part; 4]), 413, "too_large");
    refused(service.post("/predict", &json!({ "image": "", "name": "x".repeat(4096) })), 413, "too_large");

    let text = ("name=image; filename=a.txt\r\ncontent-type: text/plain", just.as_slice());
    for answer in [
        service.send("/kinds", "", &[text]),
        service.ask("POST", "/kinds", "content-type: text/plain\r\n", &just),
        service.post("/kinds", &json!({ "image": "data:text/plain,abc" })),
        // Nobody says what it is; its first bytes do.
        service.post("/kinds", &json!({ "image": STANDARD.encode(b"%PDF-1.7") })),
        service.send("/predict", "content-encoding: gzip\r\n", &[text]),
    ] {
        refused(answer, 415, "media_type");
    }
    assert_eq!(service.post("/kinds", &json!({ "image": PNG })).status, 200);
    // The picture itself tells its kind, whatever the caller says.
    let mut gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;".to_vec();
    let named = "name=image; filename=a.png\r\ncontent-type: image/png";
    refused(service.send("/picture", "", &[(named, &gif)]), 415, "media_type");
    gif.truncate(20);
    refused(service.send("/picture", "", &[(named, &gif)]), 422, "file");
}

/// A PNG that says it has so many points on each side, and has none.
fn bomb(side: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    png.extend(13_u32.to_be_bytes());
    png.extend(&header);
    let mut check = flate2::Crc::new();
    check.update(&header);
    png.extend(check.sum().to_be_bytes());
    png
}

/// What only an attacker or a broken program sends.
#[test]
fn no_request_is_a_failure_of_the_model() {
    let service = served(FILES, &["memory", "path", "picture", "reader", "several", "size"]);
    let form = |head: &str, body: &[u8]| service.ask("POST", "/size", &format!("content-type: {head}\r\n"), body);
    let limited = "multipart/form-data; boundary=limit";
    let part = |head: &str| format!("--limit\r\n{head}\r\n\r\nabc\r\n--limit--\r\n").into_bytes();
    let named = |name: &str| part(&format!("content-disposition: form-data; name={name}"));
    let long = named(&"x".repeat(20_000));
    let bare = part("content-type: image/png");
    let latin =
        [&part("content-disposition: form-data; name=note")[..40], b"\xff\xfe\r\n\r\nabc\r\n--limit--\r\n"].concat();
    let coded = part("content-disposition: form-data; name=image\r\ncontent-transfer-encoding: base64");
    for (head, body) in [
        ("multipart/form-data", b"".as_slice()),
        (limited, b""),
        (limited, b"abc"),
        (limited, b"--limit\r\n"),
        (limited, b"--limit\r\ncontent-disposition: form-data; name=image\r\n\r\nabc"),
        (limited, &long),
        (limited, &bare),
        (limited, &latin),
        (limited, &coded),
        ("multipart/form-data; boundary=", b"----"),
        ("multipart/form-data; boundary=\"", b"----"),
        ("application/json; charset=utf-16", b"\xff\xfe{\x00}\x00"),
        ("application/json", b"\xff"),
        ("application/json", b"[]"),
        ("application/json", &b"[".repeat(100_000)),
    ] {
        let answer = form(head, body);
        assert_eq!(answer.status, 422, "{head}: {} {}", answer.body, service.log());
    }
    let many = vec![("name=\"\"", b"".as_slice()); 1001];
    assert_eq!(service.send("/size", "", &many).status, 413);
    let image = ("name=image; filename=\"\\\"; x=\"", b"abc".as_slice());
    for (parts, status) in [
        (vec![image], 200),
        (vec![image, image], 422),
        (vec![image, ("name=times", b"two")], 422),
        (vec![image, ("name=times", b"1, \"note\": 2")], 422),
        (vec![image, ("name=note", b"\xff")], 422),
        (vec![image, ("name=note\r\ncontent-type: application/json", b"{")], 422),
        (vec![image, ("name=note\r\ncontent-type: application/json", b"\"x\"")], 200),
        (vec![image, ("name=other", b"")], 422),
        (vec![("name=note", b"x")], 422),
    ] {
        let answer = service.send("/size", "", &parts);
        assert_eq!(answer.status, status, "{parts:?}: {}", answer.body);
    }
    let url = format!("data:image/png;base64,{PNG}");
    for image in [
        json!("http://127.0.0.1:1/x.png"),
        json!("file:///etc/passwd"),
        json!("FILE:/etc/passwd"),
        json!("data:"),
        json!("data:image/png;base64"),
        json!("data:image/png;base64,%%%"),
        json!(format!("data:image/png;base64,{url}")),
        json!("aGVsbG8"),
        json!("aGVsbG9="),
        json!("aGVs\nbG8="),
        json!("aGVsbG8_"),
        json!("ä"),
        json!("\u{0}"),
        json!(5),
        json!(null),
        json!([PNG]),
        json!({ "image": PNG }),
    ] {
        for path in ["/size", "/path", "/picture"] {
            let answer = service.post(path, &json!({ "image": image }));
            assert_eq!(answer.status, 422, "{path} {image}: {} {}", answer.body, service.log());
        }
    }
    for side in [9_500, 20_000, 65_535] {
        let answer = service.ask("POST", "/picture", "content-type: image/png\r\n", bomb(side));
        assert_eq!(answer.status, 422, "{}", answer.body);
    }
    let postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n";
    assert_eq!(service.ask("POST", "/picture", "content-type: image/eps\r\n", postscript).status, 422);
    for (content, said) in [
        (b"%PDF-1.7 hello".as_slice(), "it is application/pdf; PNG, JPEG, WEBP, GIF, BMP, TIFF"),
        (b"hello, hello, hello", "its first bytes are those of no picture that is known; PNG, JPEG"),
        (b"", "it is empty"),
    ] {
        let answer = service.send("/picture", "", &[("name=image; filename=x", content)]);
        assert!(answer.status == 422 && answer.body.contains(said), "{}", answer.body);
        let hint = answer.body.contains("send the file as it is, or as PNG or JPEG");
        assert_eq!(hint, !content.is_empty(), "{}", answer.body);
    }
    assert!(!service.log().contains("the request failed"), "{}", service.log());
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_file_takes_no_memory() {
    let source = "from pathlib import Path\nfrom typing import BinaryIO\n\ndef path(image: Path):\n    return {'size': \
                  image.stat().st_size}\n\ndef reader(image: BinaryIO):\n    return {'size': sum(map(len, iter(lambda: \
                  image.read(65536), b'')))}\n";
    let service = served(source, &["path", "reader"]);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", service.process_id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let file = vec![b'x'; 90_000_000];
    service.send("/path", "", &[("name=image; filename=x.bin", &file[..1000])]);
    let before = memory();
    for path in ["/path", "/reader"] {
        let answer = service.send(path, "", &[("name=image; filename=x.bin", &file)]);
        assert_eq!(answer.json()["size"], json!(file.len()));
        let answer = service.ask("POST", path, "content-type: application/octet-stream\r\n", &file);
        assert_eq!(answer.json()["size"], json!(file.len()));
    }
    assert!(memory() < before + 20_000, "{before} kB before, {} kB at most", memory());
}

/// What the cases below take their types from; some lie in a file of their own.
const TYPES: &str = "from __future__ import annotations\n\nimport datetime as dt\nimport enum\nimport uuid\n\
from dataclasses import dataclass, field\nfrom decimal import Decimal\n\
from typing import Annotated, Any, Dict, List, Literal, NamedTuple, Optional, Set, TypedDict, Union\n\n\
import annotated_types as at\nimport numpy as np\nimport numpy.typing as npt\nimport pandas as pd\n\
from pydantic import BaseModel, Field, PositiveInt\nfrom shapes import Color, Shape as Figure\n\n\n\
@dataclass\nclass Point:\n    x: float\n    y: float = 0.0\n    tags: list[str] = field(default_factory=list)\n\n\n\
class Row(TypedDict, total=False):\n    a: int\n\n\nclass Pair(NamedTuple):\n    a: int\n    b: str = 'x'\n\n\n\
class Level(enum.IntEnum):\n    LOW = enum.auto()\n    HIGH = enum.auto()\n\n\n\
class Item(BaseModel):\n    \"\"\"One thing.\"\"\"\n    n: int = Field(gt=0, description='how many')\n    at: Optional[Point] = None\n    \
parts: List[Item] = []\n\n\nclass Closed(Item):\n    model_config = {'extra': 'forbid'}\n    name: str = Field('x', alias='Name', max_length=3)\n\n\n\
Matrix = List[List[float]]\n\n\n";

const SHAPES: &str = "import enum\nfrom dataclasses import dataclass\n\n\nclass Color(str, enum.Enum):\n    RED = 'red'\n    \
BLUE = 'blue'\n\n\n@dataclass\nclass Shape:\n    color: Color\n    sides: int = 4\n";

/// A type, values that are taken, and values that are refused.
fn cases() -> Vec<(&'static str, Value, Value)> {
    let id = "123e4567-e89b-12d3-a456-426614174000";
    vec![
        ("bool", json!([true]), json!([1, "true", null])),
        ("int", json!([1, -5]), json!(["1", 1.5, true, null])),
        ("float", json!([1, 2.5]), json!(["1", true, null])),
        ("str", json!(["", "ä"]), json!([1, null])),
        ("Any", json!([1, null, "x", [1], {}]), json!([])),
        ("Optional[int]", json!([1, null]), json!(["1"])),
        ("Union[int, str]", json!([1, "1"]), json!([1.5, null])),
        ("Literal['a', 1]", json!(["a", 1]), json!(["1", "b", null])),
        ("dt.datetime", json!(["2026-01-02T03:04:05Z"]), json!(["x", 1, null])),
        ("dt.date", json!(["2026-01-02"]), json!(["2026-01-32", "x", 1])),
        ("dt.timedelta", json!(["P1D"]), json!(["x", 1])),
        ("uuid.UUID", json!([id]), json!(["x", 1])),
        ("Decimal", json!([1.5, "1.5", 2, "-.5"]), json!(["x", "", null, "NaN"])),
        ("list[int]", json!([[], [1]]), json!([["1"], 1, {}])),
        ("Set[int]", json!([[1, 2], [1, 1]]), json!([["1"], 1])),
        ("tuple[int, str]", json!([[1, "a"]]), json!([[1], [1, "a", 2], ["a", 1]])),
        ("tuple[int, ...]", json!([[], [1, 2]]), json!([["a"]])),
        ("Dict[str, float]", json!([{}, { "a": 1 }]), json!([{ "a": "1" }, []])),
        ("Matrix", json!([[[1, 2], []]]), json!([[1], [["1"]]])),
        ("Annotated[int, Field(gt=0, le=5)]", json!([1, 5]), json!([0, 6])),
        ("Annotated[str, at.Len(1, 2)]", json!(["a", "ab"]), json!(["", "abc"])),
        ("Annotated[List[int], Field(min_length=1)]", json!([[1]]), json!([[]])),
        ("Optional[Annotated[int, at.Ge(3)]]", json!([3, null]), json!([2])),
        ("PositiveInt", json!([1]), json!([0, -1])),
        ("Color", json!(["red"]), json!(["green", 1])),
        ("Level", json!([1, 2]), json!([0, 3, "1"])),
        (
            "Point",
            json!([{ "x": 1 }, { "x": 1, "y": 2, "tags": ["a"] }]),
            json!([{}, { "x": "1" }, { "x": 1, "z": 1 }, []]),
        ),
        ("Figure", json!([{ "color": "red" }]), json!([{ "color": "green" }, { "sides": 3 }])),
        ("Row", json!([{}, { "a": 1 }]), json!([{ "a": "1" }, { "b": 1 }])),
        ("Pair", json!([[1], [1, "b"]]), json!([[], ["1"], [1, "b", 2]])),
        (
            "Item",
            json!([{ "n": 1 }, { "n": 1, "other": 2, "at": { "x": 1 }, "parts": [{ "n": 2 }] }]),
            json!([{}, { "n": 0 }, { "n": 1, "parts": [{ "n": 0 }] }, { "n": 1, "at": { "x": [] } }]),
        ),
        (
            "Closed",
            json!([{ "n": 1, "Name": "abc" }, { "n": 1 }]),
            json!([{ "n": 1, "Name": "abcd" }, { "n": 1, "z": 1 }]),
        ),
        ("List[Color]", json!([["red"]]), json!([["green"]])),
        ("np.ndarray", json!([[], [1], [[1, 2], [3, 4]]]), json!([1, "x", {}])),
        ("npt.NDArray[np.float32]", json!([[1, 2.5], [[1]]]), json!([1, "x"])),
        (
            "Annotated[np.ndarray, {'dtype': 'uint8', 'shape': (None, 2)}]",
            json!([[], [[1, 2]], [[0, 255], [3, 4.0]]]),
            json!([[1, 2], [[1, 2, 3]], [[1, 256]], [[1, -1]], [[1, 1.5]], [["1", 2]]]),
        ),
        ("Annotated[npt.NDArray[np.bool_], {'shape': [2]}]", json!([[true, false]]), json!([[true], [1, 0]])),
        (
            "pd.DataFrame",
            json!([[{ "a": 1 }, { "a": 2 }], { "a": [1, 2] }, { "columns": ["a"], "data": [[1]] }, []]),
            json!(["x", { "a": 1 }, [1]]),
        ),
        ("Annotated[pd.DataFrame, 'split']", json!([[{ "a": 1 }]]), json!([1])),
        ("Annotated[pd.DataFrame, 'columns']", json!([[{ "a": 1 }]]), json!([1])),
        ("pd.Series", json!([[1, 2]]), json!([1, {}])),
        (
            "bytes",
            json!(["", "aGVsbG8=", "data:text/plain,abc", "data:;base64,aGVsbG8="]),
            json!(["aGVsbG8", "aGVsbG9=", "http://a/b", "data:x", 1, null]),
        ),
        ("Optional[List[bytes]]", json!([null, [], ["aGVsbG8="]]), json!([["x"], "aGVsbG8="])),
        ("Dict[str, bytes]", json!([{ "a": "aGVsbG8=" }]), json!([{ "a": "x" }])),
    ]
}

/// A document that is found by a reference into the description.
fn validator(document: &Value, path: &str) -> jsonschema::Validator {
    let mut schema = document.clone();
    schema["$ref"] = format!("#{path}").into();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// What is taken and given is what the description says, for each type.
#[test]
fn the_description_says_what_the_service_takes_and_gives() {
    let cases = cases();
    let functions = (0..cases.len()).map(|number| format!("f{number}")).collect::<Vec<_>>();
    let names: Vec<&str> = functions.iter().map(String::as_str).collect();
    let source = cases.iter().zip(&names).fold(TYPES.to_owned(), |source, ((annotation, ..), name)| {
        source + &format!("def {name}(x: {annotation}) -> {annotation}:\n    return x\n\n\n")
    });
    let functions = names.iter().map(|name| ((*name).to_owned(), json!(format!("src/predict.py:{name}"))));
    let functions = Value::Object(functions.collect());
    let files = [("src/predict.py", source.as_str()), ("src/shapes.py", SHAPES)];
    let service = Service::of_files(&tiny(&json!({ "functions": functions })), &files).ready();
    let mut wrong = Vec::new();
    for ((annotation, taken, refused), name) in cases.iter().zip(&names) {
        let at = format!("/paths/~1{name}/post");
        let request = validator(&service.document, &format!("{at}/requestBody/content/application~1json/schema"));
        let content = format!("{at}/responses/200/content/application~1json/schema");
        let answer_of = validator(&service.document, &content);
        let both = [(taken, true), (refused, false)];
        for (value, is_taken) in
            both.iter().flat_map(|(list, is)| list.as_array().unwrap().iter().map(move |one| (one, *is)))
        {
            let body = json!({ "x": value });
            let answer = service.ask("POST", &format!("/{name}"), "accept: application/json\r\n", body.to_string());
            let (status, is_valid) = (answer.status, request.is_valid(&body));
            // Of lists in lists, no schema says that they have to be of one length or type.
            if status != if is_taken { 200 } else { 422 } || is_valid != is_taken {
                wrong.push(format!("{annotation} {value}: {status}, valid: {is_valid}: {}", answer.body));
            } else if is_taken && !answer_of.is_valid(&answer.json()) {
                wrong.push(format!("{annotation} {value}: the answer is not as described: {}", answer.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), service.log().lines().take(5).collect::<Vec<_>>().join("\n"));
    let item = &service.document["components"]["schemas"]["Item"];
    assert_eq!(item["description"], "One thing.");
    assert_eq!(item["properties"]["n"], json!({ "type": "integer", "exclusiveMinimum": 0, "description": "how many" }));
    assert_eq!(item["properties"]["parts"]["items"], json!({ "$ref": "#/components/schemas/Item" }));
    assert!(service.document["components"]["schemas"]["Shape"]["properties"]["color"]["$ref"].is_string());
}

#[test]
fn numbers_that_json_does_not_have_are_never_silent() {
    let source = "from dataclasses import dataclass\n\n\n@dataclass\nclass Point:\n    x: float = 0.0\n\n\n@dataclass\nclass \
                  Line:\n    points: list[Point]\n\n\ndef predict(text: bool = False):\n    return ['NaN', 'Infinity'] if \
                  text else {'a': float('nan'), 'b': [float('-inf')], 'c': 'NaN'}\n\n\ndef halves(line: Line) -> Line:\n    \
                  return Line([Point(float('inf'))] + line.points)\n\n\ndef bare(x: float = 1.0) -> list[float]:\n    \
                  return [x, float('nan')]\n";
    for (nan, wanted) in [
        (json!(null), Some(json!({ "a": null, "b": [null], "c": "NaN" }))),
        (json!("text"), Some(json!({ "a": "NaN", "b": ["-Infinity"], "c": "NaN" }))),
        (json!("error"), None),
    ] {
        let functions = json!({ "halves": "src/predict.py:halves", "bare": "src/predict.py:bare" });
        let service = tiny(&json!({ "predict": "src/predict.py:predict", "functions": functions, "nan": nan }));
        let service = Service::start(&service, source).ready();
        // The description says what may stand in the place of a number: in an answer, and nowhere else.
        for (path, body) in [("halves", json!({ "line": { "points": [{ "x": 1 }] } })), ("bare", json!({}))] {
            let answer = service.post(&format!("/{path}"), &body);
            let at = format!("/paths/~1{path}/post");
            let described =
                validator(&service.document, &format!("{at}/responses/200/content/application~1json/schema"));
            match wanted {
                Some(_) => assert!(described.is_valid(&answer.json()), "{nan} {}", answer.body),
                None => assert_eq!(answer.status, 500),
            }
            let or_null = json!([null, 1.0]);
            let is_nullable = wanted.is_some() && nan.is_null();
            assert_eq!(path == "bare" && described.is_valid(&or_null), path == "bare" && is_nullable, "{nan}");
        }
        let schemas = &service.document["components"]["schemas"];
        assert_eq!(schemas["Point"]["properties"]["x"]["type"], "number");
        assert_eq!(schemas["Line-Output"].is_object(), wanted.is_some(), "{schemas}");
        assert_eq!(service.post("/predict", &json!({ "text": true })).json(), json!(["NaN", "Infinity"]));
        assert!(!service.log().contains("predict answers NaN"));
        let answers = [service.post("/predict", &json!({})), service.post("/predict", &json!({}))];
        match wanted {
            Some(wanted) => answers.iter().for_each(|answer| assert_eq!(answer.json(), wanted)),
            None => answers.iter().for_each(|answer| assert_eq!(answer.status, 500)),
        }
        let warned = service.log().matches("predict answers NaN or infinity: JSON has neither").count();
        assert_eq!(warned, usize::from(nan.is_null()), "{}", service.log());
    }
}
