//! Tensors without their net: the person's own class beside them is found by what it is made of, and never run.

use std::fs;

use crate::home::Home;
use serde_json::{Value, json};

/// A file of safetensors with these tensors of ones.
fn tensors(shapes: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert((*name).to_owned(), json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = Value::from(header).to_string();
    let ones = 1_f32.to_le_bytes().repeat(at / 4);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &ones].concat()
}

/// What is proposed for tensors of these shapes beside these files, and the code.
fn proposed(shapes: &[(&str, &[usize])], files: &[(&str, &str)]) -> (Value, String) {
    let home = Home::empty();
    home.write("net/m.safetensors", tensors(shapes));
    for (name, text) in files {
        home.write(&format!("net/{name}"), text);
    }
    let report = home.run(["convert", "net/m.safetensors", "-o", "made", "--output", "json"]).ok().json();
    // The code that is written is Python, and what it imports is there.
    home.run(["validate", "made/m"]).ok();
    let code = fs::read_to_string(home.folder().join("made/m/src/predict.py")).unwrap();
    (report["models"][0].clone(), code)
}

const LINEAR: &[(&str, &[usize])] =
    &[("first.weight", &[6, 3]), ("first.bias", &[6]), ("last.weight", &[2, 6]), ("last.bias", &[2])];

#[test]
fn a_class_is_made_with_what_the_tensors_say() {
    let net = "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, inputs, hidden=8, classes=2):\n        \
               super().__init__()\n        self.first = nn.Linear(inputs, hidden)\n        self.last = nn.Linear(hidden, \
               classes)\n    def forward(self, x): return self.last(self.first(x))\n";
    let (row, code) = proposed(LINEAR, &[("net.py", net), ("unrelated.py", "class Other: pass\n")]);
    assert_eq!(row["state"], "ready", "{row:#}");
    assert_eq!(row["proposal"]["input"], "rows of 3 numbers");
    assert!(code.contains("model = Net(inputs=3, hidden=6)\nload_model(model, "), "{code}");
    // Of two classes that could be meant, the one that the shapes rule out is not.
    let other = net.replace("class Net", "class Wide").replace("nn.Linear(hidden", "nn.Linear(9");
    let (row, code) = proposed(LINEAR, &[("net.py", net), ("wide.py", &other)]);
    assert!(row["state"] == "ready" && code.contains("from net import Net\n"), "{row:#}");
    // What DataParallel, or a net around it, puts before the names.
    let wrapped: Vec<(String, &[usize])> =
        LINEAR.iter().map(|(name, shape)| (format!("module.{name}"), *shape)).collect();
    let wrapped: Vec<(&str, &[usize])> = wrapped.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    let (row, code) = proposed(&wrapped, &[("net.py", net)]);
    assert!(row["state"] == "ready" && code.contains("name.removeprefix(\"module.\")"), "{row:#}\n{code}");
}

#[test]
fn classes_within_classes_and_bases_are_followed() {
    let net = "import torch.nn as nn\nfrom blocks import Block\n\nclass Base(nn.Module):\n    def forward(self, tokens): ...\n\n\
               class Net(Base):\n    def __init__(self, words, width=4):\n        super().__init__()\n        self.embed = \
               nn.Embedding(words, width)\n        self.block = Block(width, out=3)\n        if width > 100:\n            \
               self.more = nn.Linear(width, width)\n";
    let blocks = "from torch.nn import Linear, Module, ReLU, Sequential\n\nclass Block(Module):\n    def __init__(self, size, \
                  out):\n        super().__init__()\n        self.layers = Sequential(ReLU(), Linear(size, out))\n";
    let shapes: &[(&str, &[usize])] =
        &[("block.layers.1.bias", &[3]), ("block.layers.1.weight", &[3, 5]), ("embed.weight", &[100, 5])];
    let (row, code) = proposed(shapes, &[("net.py", net), ("blocks.py", blocks)]);
    assert_eq!(row["state"], "ready", "{row:#}");
    assert!(code.contains("model = Net(words=100, width=5)") && code.contains("\"int64\", (None, None)"), "{code}");
    // A block of another size fits no more.
    let (row, _) = proposed(shapes, &[("net.py", net), ("blocks.py", &blocks.replace("size, out))", "size, 4))"))]);
    assert_eq!(row["state"], "incomplete", "{row:#}");
}

#[test]
fn what_cannot_be_told_is_said() {
    let net = "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self, rate):\n        super().__init__()\n        \
               self.first = torch.nn.Linear(3, 6)\n        self.last = torch.nn.Linear(6, 2)\n    def forward(self, x): ...\n";
    let open = |files: &[(&str, &str)]| {
        let (row, code) = proposed(LINEAR, files);
        assert_eq!(row["state"], "incomplete", "{row:#}");
        assert!(code.contains("raise NotImplementedError"), "{code}");
        row["proposal"]["open"].as_array().unwrap().iter().map(|open| open.as_str().unwrap().to_owned()).collect()
    };
    let missing: Vec<String> = open(&[("net.py", net)]);
    assert_eq!(missing, ["what Net of net.py is made with: nothing says its `rate`; src/predict.py makes it"]);
    let fixed = net.replace("self, rate", "self");
    let twin = fixed.replace("class Net", "class Twin");
    let both: Vec<String> = open(&[("net.py", &fixed), ("twin.py", &twin)]);
    assert!(both[0].contains("Net of net.py and Twin of twin.py fit"), "{both:?}");
    let none: Vec<String> = open(&[("net.py", &fixed.replace("self.last", "self.end"))]);
    assert!(none[0].contains("not Net of net.py fits"), "{none:?}");
    let alone: Vec<String> = open(&[]);
    assert!(alone[0].contains("put the file with its class beside it"), "{alone:?}");
    // A script that trains would train in the container.
    let (row, code) = proposed(LINEAR, &[("train.py", &format!("{fixed}\nfor epoch in range(3):\n    pass\n"))]);
    assert_eq!(row["state"], "incomplete");
    assert!(row["proposal"]["open"][0].as_str().unwrap().contains("line 10"), "{row:#}");
    assert!(code.contains("from train import Net"), "{code}");
}

#[test]
fn hostile_classes_end_in_an_answer() {
    // Each holds two of the next.
    let mut source = String::from("import torch.nn as nn\n");
    for number in 0..40 {
        let next = number + 1;
        source += &format!(
            "class A{number}(nn.Module):\n    def __init__(self):\n        self.a = A{next}()\n        self.b = A{next}()\n"
        );
    }
    source += "class A40(A0): pass\nclass B(C): pass\nclass C(B): pass\n";
    let names: Vec<String> =
        (0..2_u32.pow(8)).map(|n| format!("{n:b}").replace('0', "a.").replace('1', "b.")).collect();
    let shapes: Vec<(String, &[usize])> = names.iter().map(|name| (format!("a.{name}weight"), &[1][..])).collect();
    let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    let started = std::time::Instant::now();
    let (row, _) = proposed(&shapes, &[("net.py", &source)]);
    assert_eq!(row["state"], "incomplete");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
