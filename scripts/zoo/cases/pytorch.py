"""PyTorch: tensors, TorchScript, exported programs, modules, Lightning, fastai."""

import pathlib

from ..case import case
from .own import written

TORCH = "torch numpy"
# Where code lies that is not beside the model: the folder that a case is called in.
ELSEWHERE = pathlib.Path(".")

NET = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, inputs=4, hidden=8, classes=3):
        super().__init__()
        self.hidden = torch.nn.Linear(inputs, hidden)
        self.classes = torch.nn.Linear(hidden, classes)

    def forward(self, measures):
        return self.classes(torch.relu(self.hidden(measures)))
"""


def net(folder):
    """A net of `net.py` in a folder, trained, and rows that it has not seen."""
    import torch

    torch.manual_seed(0)
    model = written(folder, "net", NET).Net()
    data = torch.rand(200, 4)
    target = (data.sum(dim=1) * 3 / 4).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(data[:190]), target[:190]).backward()
        optimizer.step()
    return model.eval(), data[190:194]


def asked(saved, model, rows, name="measures"):
    import torch

    with torch.no_grad():
        saved.ask(rows=rows, tensors={name: rows})
        saved.answer("forward", forward=model(rows))


@case("torch-state-dict", "16a", "PyTorch `state_dict`, `.pt`", "torch", TORCH)
def torch_state_dict(saved):
    import torch

    model, unseen = net(ELSEWHERE)
    torch.save(model.state_dict(), saved.path("model.pt"))
    asked(saved, model, unseen)
    saved.lacking = "the net"


@case("torch-state-dict-net", "+", "PyTorch `state_dict`, `net.py` beside it", "torch", TORCH)
def torch_state_dict_net(saved):
    import torch

    model, unseen = net(saved.folder)
    torch.save(model.state_dict(), saved.path("model.pt"))
    asked(saved, model, unseen)


@case("torch-checkpoint", "", "a PyTorch checkpoint: a dictionary with `model_state_dict` and others", "torch", TORCH)
def torch_checkpoint(saved):
    import torch

    model, unseen = net(saved.folder)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    torch.save(
        {
            "epoch": 20,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss": 0.3,
        },
        saved.path("checkpoint.tar"),
    )
    asked(saved, model, unseen)


@case("torchscript-script", "16b", "`torch.jit.script`, `.pt`", "torch", TORCH)
def torchscript_script(saved):
    import torch

    model, unseen = net(ELSEWHERE)
    torch.jit.script(model).save(saved.path("model.pt"))
    saved.code = True
    asked(saved, model, unseen)


@case("torchscript-trace", "+", "`torch.jit.trace`, `.pt`", "torch", TORCH)
def torchscript_trace(saved):
    import torch

    model, unseen = net(ELSEWHERE)
    torch.jit.trace(model, unseen[:1]).save(saved.path("traced.pt"))
    saved.code = True
    asked(saved, model, unseen)


@case("torch-export", "16c", "`torch.export`, `.pt2`", "torch", TORCH)
def torch_export(saved):
    import torch

    model, unseen = net(ELSEWHERE)
    program = torch.export.export(model, (unseen,), dynamic_shapes={"measures": {0: torch.export.Dim("batch")}})
    torch.export.save(program, saved.path("model.pt2"))
    asked(saved, model, unseen)


@case("torch-module", "16d", "`torch.save(module)`, `net.py` beside it", "torch", TORCH)
def torch_module(saved):
    import torch

    model, unseen = net(saved.folder)
    torch.save(model, saved.path("model.pt"))
    asked(saved, model, unseen)


@case("torch-sequential", "+", "`torch.save(module)` of PyTorch's own classes", "torch", TORCH)
def torch_sequential(saved):
    import torch

    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Softmax(dim=1)
    ).eval()
    torch.save(model, saved.path("sequential.pth"))
    asked(saved, model, torch.rand(3, 4))


@case("safetensors", "", "safetensors, `net.py` beside it", "torch", TORCH + " safetensors")
def safetensors(saved):
    import safetensors.torch

    model, unseen = net(saved.folder)
    safetensors.torch.save_model(model, str(saved.path("model.safetensors")))
    asked(saved, model, unseen)


MODULE = """\
import lightning
import torch


class Classifier(lightning.LightningModule):
    def __init__(self, inputs=4, hidden=8, classes=3, rate=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes)
        )

    def forward(self, measures):
        return self.layers(measures)

    def training_step(self, batch, number):
        measures, target = batch
        return torch.nn.functional.cross_entropy(self(measures), target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.rate)
"""


@case("lightning", "", "a Lightning checkpoint, `classifier.py` beside it", "torch", TORCH + " lightning")
def lightning(saved):
    import lightning
    import torch

    lightning.seed_everything(0, verbose=False)
    model = written(saved.folder, "classifier", MODULE).Classifier(hidden=6)
    data = torch.rand(100, 4)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data[:90], (data[:90].sum(1) * 3 / 4).long()), 30
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    trainer.save_checkpoint(saved.path("model.ckpt"))
    asked(saved, model.eval(), data[90:93])


@case("fastai", "", "fastai, `learn.export`", "torch", TORCH + " fastai pandas")
def fastai(saved):
    import torch
    from fastai.tabular.all import (
        Categorify,
        CategoryBlock,
        FillMissing,
        Normalize,
        TabularDataLoaders,
        tabular_learner,
    )

    from .scikit import customers

    torch.manual_seed(0)
    table, target, unseen = customers()
    table = table.assign(churn=target.map({0: "no", 1: "yes"}))
    loaders = TabularDataLoaders.from_df(
        table,
        path=".",
        procs=[Categorify, FillMissing, Normalize],
        cat_names=["city", "plan"],
        cont_names=["age", "income"],
        y_names="churn",
        y_block=CategoryBlock(),
        bs=32,
    )
    learner = tabular_learner(loaders, layers=[8])
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(2)
        learner.export(saved.path("export.pkl"))
        found = [learner.predict(unseen.iloc[number]) for number in range(len(unseen))]
    vocabulary = learner.dls.vocab
    saved.code = True
    saved.ask(records=unseen)
    saved.answer(
        "predict labels",
        near="float32",
        predict=[[vocabulary[int(one)], int(one), chances] for _, one, chances in found],
        labels=[vocabulary[int(one)] for _, one, _ in found],
    )
